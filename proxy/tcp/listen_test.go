package tcp

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// acceptor admits everybody, unless closed.
type acceptor struct {
	t        testing.TB
	accepted func(*Conn)
	closed   atomic.Bool
}

func (a *acceptor) Admit() bool { return !a.closed.Load() }

func (a *acceptor) Accepted(c *Conn) { a.accepted(c) }

func (a *acceptor) Missed(err error) {
	if err != nil {
		a.t.Error(err)
	}
}

func listen(t testing.TB) (l *Listener, port uint16) {
	t.Helper()
	l, err := Listen(loopback, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	err = control(rawListener{l}, func(fd int) error {
		addr, err := unix.Getsockname(fd)
		port = addrPortOf(addr).Port()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, port
}

func dialPort(t testing.TB, port uint16) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestListenerNotAdmitting(t *testing.T) {
	l, port := listen(t)
	clients := make(chan *Conn, 1)
	a := &acceptor{t: t, accepted: func(c *Conn) { clients <- c }}
	a.closed.Store(true)
	l.Serve(a)
	client := dialPort(t, port)
	// What is done in the loop after the connection has come is done after it was told of.
	l.loop.do(func() {})
	l.loop.do(func() {})
	if len(clients) > 0 {
		t.Fatal("a connection was accepted against the acceptor's will")
	}
	a.closed.Store(false)
	l.Resume()
	conn := <-clients
	conn.Reset()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client sees %v, want a reset", err)
	}
}

// A listener is closed while clients come: none is accepted twice, or by whoever gets the descriptor next, and the address is
// free when Close returns.
func TestListenerClosesUnderLoad(t *testing.T) {
	for range 50 {
		l, port := listen(t)
		var accepted atomic.Int64
		l.Serve(&acceptor{t: t, accepted: func(c *Conn) {
			accepted.Add(1)
			c.Close()
		}})
		var connected atomic.Int64
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for {
					conn, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
					if err != nil {
						return
					}
					connected.Add(1)
					reset(t, conn)
				}
			})
		}
		for connected.Load() < 20 {
			l.loop.do(func() {})
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := Listen(loopback, port)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		clients.Wait()
		if a, c := accepted.Load(), connected.Load(); a > c {
			t.Errorf("%d connections were accepted, only %d made", a, c)
		}
		if err := l.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("closed again: %v", err)
		}
	}
}

// Two have one socket, as two processes do while one takes over from the other; when one closes it, no connection is lost.
func TestListenerHandedOver(t *testing.T) {
	for range 50 {
		old, port := listen(t)
		next, err := newListener(old)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []*Listener{old, next} {
			l.Serve(&acceptor{t: t, accepted: func(c *Conn) { c.Close() }})
		}
		var clients sync.WaitGroup
		var served atomic.Int64
		for range 8 {
			clients.Go(func() {
				for range 20 {
					conn, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
					if err == nil {
						err = conn.SetDeadline(time.Now().Add(time.Minute))
					}
					if err != nil {
						t.Error(err)
						return
					}
					if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("read %d, %v, want the end", n, err)
					}
					served.Add(1)
					reset(t, conn)
				}
			})
		}
		for served.Load() < 40 && !t.Failed() {
			next.loop.do(func() {})
		}
		if err := old.Close(); err != nil {
			t.Error(err)
		}
		clients.Wait()
		if err := next.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The number of threads that may run Go code is the program's to set.
func TestLoopsLeaveGOMAXPROCSAlone(t *testing.T) {
	listen(t)
	if n := runtime.GOMAXPROCS(0); n != cores {
		t.Errorf("GOMAXPROCS was %d and is %d", cores, n)
	}
}
