package tcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// dialed waits for Dial.
func dialed(ctx context.Context, addr netip.AddrPort, timeout, stay time.Duration) (*Conn, error) {
	type result struct {
		conn *Conn
		err  error
	}
	done := make(chan result, 1)
	Dial(ctx, addr, timeout, stay, func(conn *Conn, err error) { done <- result{conn, err} })
	r := <-done
	return r.conn, r.err
}

func TestDial(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	full := fullListener(t)

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, row := range []struct {
		name    string
		ctx     context.Context
		addr    netip.AddrPort
		timeout time.Duration
		want    error
	}{
		{"nobody listens", t.Context(), free, time.Minute, unix.ECONNREFUSED},
		{"nobody listens, IPv6", t.Context(), netip.AddrPortFrom(netip.IPv6Loopback(), free.Port()), time.Minute, unix.ECONNREFUSED},
		{"ended before", cancelled, free, time.Minute, context.Canceled},
		{"no answer in time", t.Context(), full, time.Millisecond, os.ErrDeadlineExceeded},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn, err := dialed(row.ctx, row.addr, row.timeout, 0)
			if !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
			if conn != nil {
				conn.Reset()
			}
		})
	}
	t.Run("ended while it waits", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		mine := errors.New("mine")
		time.AfterFunc(10*time.Millisecond, func() { cancel(mine) })
		if _, err := dialed(ctx, full, time.Minute, 0); !errors.Is(err, mine) {
			t.Errorf("got %v, want %v", err, mine)
		}
	})
}

// fullListener is an address that neither accepts nor refuses: its queue is full.
func fullListener(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(loopback, uint16(name.(*unix.SockaddrInet4).Port))
	for {
		conn, err := net.DialTimeout("tcp4", addr.String(), 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
}

func TestStaysOpen(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(*net.TCPConn) error
		want bool
	}{
		{"silent", func(*net.TCPConn) error { return nil }, true},
		{"speaks", func(c *net.TCPConn) error { _, err := c.Write([]byte("220")); return err }, true},
		{"speaks and closes", func(c *net.TCPConn) error { _, err := c.Write([]byte("220")); return errors.Join(err, c.Close()) }, true},
		{"closes", (*net.TCPConn).Close, false},
		{"resets", func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var peer *net.TCPConn
			done := make(chan error, 1)
			Dial(t.Context(), l.Addr().(*net.TCPAddr).AddrPort(), time.Minute, 50*time.Millisecond, func(conn *Conn, err error) {
				if err == nil {
					conn.Close()
				}
				done <- err
			})
			if peer, err = l.AcceptTCP(); err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			if err := row.do(peer); err != nil {
				t.Fatal(err)
			}
			if err := <-done; (err == nil) != row.want {
				t.Errorf("got %v, want success: %v", err, row.want)
			}
		})
	}
}
