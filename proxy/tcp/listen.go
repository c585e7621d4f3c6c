package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Dead peers are found within three minutes. The kernel's own values would take more than two hours.
const (
	keepaliveIdle     = 60 // seconds
	keepaliveInterval = 15 // seconds
	keepaliveCount    = 8
)

// acceptsAtOnce is how many connections a listener accepts before others have their turn.
const acceptsAtOnce = 32

// Acceptor gets the connections of a [Listener]. Its methods are called in loops, and must not block.
type Acceptor interface {
	// Admit is asked before a connection is accepted, and answered by Accepted or Missed when it says yes. After a no the next
	// one stays in the kernel's queue, until [Listener.Resume] is called or another one comes: Admit is then asked again.
	Admit() bool
	// Accepted gets a connection that was admitted.
	Accepted(*Conn)
	// Missed tells that there was none. An error is that of accept(2): EMFILE and its like, which leave the connection in the
	// queue, where it stays as after a no.
	Missed(error)
}

// Listener is a TCP socket that listens. Its methods may be called from any goroutine, but not in a loop: what belongs to the
// loop is done there, and waited for.
type Listener struct {
	loop     *loop
	acceptor Acceptor
	// fd is -1 when it is closed.
	fd    int
	place int32
}

// Listen listens on a port. The zero ip stands for every address of the host, IPv4 and IPv6, or IPv4 only where the host has no
// IPv6; :: for every IPv6 address. What fails is an error of the system call (errors.Is with EADDRINUSE, EACCES).
func Listen(ip netip.Addr, port uint16) (*Listener, error) {
	network, host := "tcp", ""
	switch {
	case !ip.IsValid():
	case ip.Is4():
		network, host = "tcp4", ip.String()
	default:
		network, host = "tcp6", ip.String()
	}
	config := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, inherited)
	}}
	// A connection of MPTCP can't be spliced, and costs more to set up.
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), network, net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		return nil, err
	}
	defer l.Close()
	socket, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("listening gave a %T", l)
	}
	return newListener(socket)
}

// NewListener makes a listener of a socket that another process opened with Listen. It takes over the file.
func NewListener(file *os.File) (*Listener, error) {
	l, err := newListener(file)
	return l, errors.Join(err, file.Close())
}

// newListener leaves the socket open.
func newListener(socket syscall.Conn) (*Listener, error) {
	loop, err := anyLoop()
	if err != nil {
		return nil, err
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &Listener{loop: loop}
	if err := control(raw, l.open); err != nil {
		return nil, err
	}
	// Not EPOLLEXCLUSIVE: where two processes have the socket, one that is about to close it must not be the only one to know of
	// a connection.
	loop.do(func() { l.place, err = loop.watch(l.fd, unix.EPOLLIN, l) })
	if err != nil {
		return nil, errors.Join(err, unix.Close(l.fd))
	}
	return l, nil
}

// open makes a descriptor of its own for the socket, which the runtime does not watch: it would wake up for each connection.
func (l *Listener) open(socket int) error {
	listens, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if listens == 0 {
		return errors.New("the socket does not listen")
	}
	l.fd, err = unix.FcntlInt(uintptr(socket), unix.F_DUPFD_CLOEXEC, 0)
	return os.NewSyscallError("fcntl", err)
}

// inherited sets what accepted sockets take over from the one that listens: set once, it costs nothing per connection.
func inherited(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepaliveIdle),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepaliveInterval),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepaliveCount),
	)
}

// Serve begins to accept connections. It is called once, may be called in a loop, and does not wait.
func (l *Listener) Serve(acceptor Acceptor) {
	l.loop.post(func() {
		l.acceptor = acceptor
		l.ready(0)
	})
}

// Resume has it accept again, after Admit said no or Missed told an error. It may be called in a loop, and does not wait.
func (l *Listener) Resume() {
	l.loop.post(func() { l.ready(0) })
}

// ready accepts what waits in the queue.
func (l *Listener) ready(uint32) {
	if l.acceptor == nil {
		return
	}
	for range acceptsAtOnce {
		if !l.acceptor.Admit() {
			return
		}
		fd, err := l.accept()
		if err != nil {
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, os.ErrClosed) {
				err = nil
			}
			l.acceptor.Missed(os.NewSyscallError("accept4", err))
			return
		}
		conn := &Conn{fd: fd, loop: l.loop.leastLoaded()}
		conn.loop.load.Add(1)
		if conn.loop == l.loop {
			l.acceptor.Accepted(conn)
		} else {
			conn.loop.post(func() { l.acceptor.Accepted(conn) })
		}
	}
	l.Resume()
}

func (l *Listener) accept() (int, error) {
	for l.fd >= 0 {
		// Not unix.Accept4, which makes another system call for the client's address.
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(l.fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR, unix.ECONNABORTED: // a client that has given up is no error of the listener's
		default:
			return -1, errno
		}
	}
	return -1, os.ErrClosed
}

// Close stops listening in this process; when it returns, another socket may have the address. Where another process has this
// one too, no connection is lost: those in the kernel's queue are the other one's.
func (l *Listener) Close() error {
	err := os.ErrClosed
	l.loop.do(func() {
		if l.fd < 0 {
			return
		}
		// Closing alone does not end the watch while another process has the socket.
		err = errors.Join(l.loop.unwatch(l.fd, l.place), os.NewSyscallError("close", unix.Close(l.fd)))
		l.fd = -1
	})
	return err
}

// SyscallConn implements [syscall.Conn], for passing the socket to another process: only Control works.
func (l *Listener) SyscallConn() (syscall.RawConn, error) { return rawListener{l}, nil }

type rawListener struct{ *Listener }

func (l rawListener) Control(f func(fd uintptr)) error {
	err := os.ErrClosed
	l.loop.do(func() {
		if l.fd >= 0 {
			err = nil
			f(uintptr(l.fd))
		}
	})
	return err
}

func (rawListener) Read(func(fd uintptr) bool) error { return errors.ErrUnsupported }

func (rawListener) Write(func(fd uintptr) bool) error { return errors.ErrUnsupported }

// control calls f with the descriptor.
func control(c syscall.RawConn, f func(fd int) error) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = f(int(fd)) }), err)
}
