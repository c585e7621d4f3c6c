package proxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
	"dokku-expose/proxy/tcp"
	"dokku-expose/proxy/udp"
)

const (
	// minBackoff and maxBackoff bound the time between two attempts to accept while the host has run out of files or memory.
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// listener gives the connections to one public address to the routes that have the address at that moment. It is their
// [tcp.Acceptor].
type listener struct {
	listen deploy.Frontend
	// tcp or udp is its socket.
	tcp   *tcp.Listener
	udp   *datagrams
	names atomic.Pointer[names]
	limit *limiter
	log   *slog.Logger
	// unrecognized are clients that asked for a name which no route has.
	unrecognized *atomic.Uint64
	// What follows is the limiter's: how many connections it has, and may have at the most, 0 for no limit of its own; whether it
	// waits for one of them to end, or for any.
	count, most int
	full, waits bool
	// resting tells that it does not accept for a while.
	resting atomic.Bool
	// backoff is how long it rests the next time; it is the loop's.
	backoff time.Duration
}

// newListener makes a listener of a socket that open opens.
func newListener(listen deploy.Frontend, s *Server, open func(*listener) error) (*listener, error) {
	l := &listener{listen: listen, limit: s.limit, log: s.log, unrecognized: &s.unrecognized, backoff: minBackoff}
	return l, open(l)
}

// open opens the public address.
func (s *Server) open(l *listener) (err error) {
	if l.listen.Proto == deploy.TCP {
		l.tcp, err = tcp.Listen(l.listen.IP, l.listen.Port)
		return err
	}
	socket, err := udp.Listen(l.listen.IP, l.listen.Port)
	if err != nil {
		return err
	}
	return s.openDatagrams(l, socket)
}

func (s *Server) openDatagrams(l *listener, socket *udp.Socket) (err error) {
	if l.udp, err = newDatagrams(l, socket, s.flows); err != nil {
		return errors.Join(err, socket.Close())
	}
	return nil
}

// inherit makes l of a socket that another process opened.
func (s *Server) inherit(l *listener, file *os.File) (err error) {
	if l.listen.Proto == deploy.TCP {
		l.tcp, err = tcp.NewListener(file)
		return err
	}
	socket, err := udp.NewSocket(file)
	if err != nil {
		return err
	}
	return s.openDatagrams(l, socket)
}

// accept begins to accept what is new.
func (l *listener) accept() {
	if l.udp != nil {
		l.udp.serve()
	} else {
		l.tcp.Serve(l)
	}
}

// socket is what is passed on to a successor, and closed.
func (l *listener) socket() interface {
	syscall.Conn
	io.Closer
} {
	if l.udp != nil {
		return l.udp
	}
	return l.tcp
}

// Admit implements [tcp.Acceptor].
func (l *listener) Admit() bool {
	return !l.resting.Load() && l.limit.acquire(l)
}

// Accepted implements [tcp.Acceptor].
func (l *listener) Accepted(client *tcp.Conn) {
	s := &session{listener: l, client: client}
	s.enter()
}

// Missed implements [tcp.Acceptor].
func (l *listener) Missed(err error) {
	l.limit.release(l)
	if err == nil {
		l.backoff = minBackoff
		return
	}
	// The client waits in the kernel's queue meanwhile. Some other connection may end, or this was for one client only.
	if l.backoff == minBackoff {
		l.log.Error("can't accept connections for now", "port", l.listen.String(), "error", err)
	}
	l.resting.Store(true)
	time.AfterFunc(l.backoff, func() {
		l.resting.Store(false)
		l.tcp.Resume()
	})
	l.backoff = min(2*l.backoff, maxBackoff)
}

// listen opens a public address. The error names the process that has it, or the remedy.
func (s *Server) listen(address deploy.Frontend) (*listener, error) {
	l, err := newListener(address, s, s.open)
	if errors.Is(err, unix.EADDRINUSE) {
		if taken := holder(address); taken != nil {
			return nil, fmt.Errorf("%w: %w", taken, err)
		}
		// It may be free by now.
		l, err = newListener(address, s, s.open)
	}
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("%w: %w", listeners.InUse(address), err)
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("the daemon may not listen on ports below 1024: its service has to give it CAP_NET_BIND_SERVICE: %w", err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s is no address of this host; `ip address` lists them: %w", address.IP, err)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return nil, fmt.Errorf("too many files are open; raise the limit where the daemon is started (LimitNOFILE of a systemd unit, ulimit -n): %w", err)
	}
	return nil, err
}

// holder is an error that names the process which listens on the port, nil when none does.
func holder(address deploy.Frontend) error {
	all, err := listeners.List()
	if err != nil {
		return err
	}
	return listeners.TakenBy(address, all, nil)
}
