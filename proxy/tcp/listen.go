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

// Listener is a TCP socket that listens. Its methods may be called from any goroutine.
type Listener struct {
	file *os.File
	raw  syscall.RawConn
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
	file, err := socket.File()
	if err != nil {
		return nil, err
	}
	return NewListener(file)
}

// NewListener makes a listener of a socket that another process opened with Listen. It closes the file when that fails.
func NewListener(file *os.File) (*Listener, error) {
	raw, err := file.SyscallConn()
	if err == nil {
		err = control(raw, func(fd int) error {
			listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
			if err == nil && listens == 0 {
				err = errors.New("the socket does not listen")
			}
			return err
		})
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Listener{file: file, raw: raw}, nil
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

// Accept waits for a connection. After Close it returns [os.ErrClosed]; EMFILE and its like are those of accept(2), and the
// connection stays in the kernel's queue.
func (l *Listener) Accept() (*Conn, error) {
	var (
		fd  int
		err error
	)
	waitErr := await(l.raw.Read, func(listener uintptr) bool {
		for {
			fd, _, err = unix.Accept4(int(listener), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			// A client that has given up is no error of the listener's.
			if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if waitErr != nil {
		return nil, waitErr
	}
	if err != nil {
		return nil, os.NewSyscallError("accept4", err)
	}
	return newConn(fd)
}

// Port is the port that the listener is bound to.
func (l *Listener) Port() (uint16, error) {
	var port int
	err := control(l.raw, func(fd int) error {
		addr, err := unix.Getsockname(fd)
		switch a := addr.(type) {
		case *unix.SockaddrInet4:
			port = a.Port
		case *unix.SockaddrInet6:
			port = a.Port
		}
		return os.NewSyscallError("getsockname", err)
	})
	return uint16(port), err
}

// File is the socket, for passing it to another process. It belongs to the listener.
func (l *Listener) File() *os.File { return l.file }

// Close stops listening in this process. Where another one has the socket too, no connection is lost: those in the kernel's
// queue are the other one's.
func (l *Listener) Close() error { return l.file.Close() }

// control calls f with the descriptor.
func control(c syscall.RawConn, f func(fd int) error) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = f(int(fd)) }), err)
}
