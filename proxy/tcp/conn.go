package tcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a connection. Reset and Close may be called from any goroutine, and again; they end what others wait for.
type Conn struct {
	file *os.File
	raw  syscall.RawConn
}

// await calls step when the socket may be ready, until it says that it is done. wait is the Read or the Write of a raw
// connection. Its error is [os.ErrClosed] or [os.ErrDeadlineExceeded].
func await(wait func(func(uintptr) bool) error, step func(uintptr) bool) error {
	err := wait(step)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	// The error of a closed file has no name outside of its package.
	return fmt.Errorf("%w: %w", os.ErrClosed, err)
}

// newConn takes over a socket that does not block.
func newConn(fd int) (*Conn, error) {
	file := os.NewFile(uintptr(fd), "tcp")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Conn{file: file, raw: raw}, nil
}

// Dial connects to addr. It gives up after timeout ([os.ErrDeadlineExceeded]) or when ctx ends (its error). What fails is
// an error of the system call: errors.Is with ECONNREFUSED, EMFILE.
func Dial(ctx context.Context, addr netip.AddrPort, timeout time.Duration) (*Conn, error) {
	conn, err := dial(ctx, addr, timeout)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return conn, nil
}

func dial(ctx context.Context, addr netip.AddrPort, timeout time.Duration) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	family, sockaddr := sockaddrOf(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// The interval and the count stay the kernel's: two calls less, for a peer on this very host.
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepaliveIdle),
	)
	if err == nil {
		err = connect(fd, sockaddr)
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return nil, errors.Join(os.NewSyscallError("connect", err), unix.Close(fd))
	}
	conn, newErr := newConn(fd)
	if newErr != nil || err == nil {
		return conn, newErr
	}
	if err := conn.awaitConnected(ctx, sockaddr, timeout); err != nil {
		conn.Reset()
		return nil, err
	}
	return conn, nil
}

func (c *Conn) awaitConnected(ctx context.Context, to unix.Sockaddr, timeout time.Duration) error {
	if err := c.file.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.file.SetWriteDeadline(time.Unix(1, 0)) })
	var err error
	waitErr := await(c.raw.Write, func(fd uintptr) bool {
		// Asked again, connect(2) tells what has become of the first call.
		err = connect(int(fd), to)
		return !errors.Is(err, unix.EALREADY) && !errors.Is(err, unix.EINPROGRESS)
	})
	if waitErr != nil {
		stop()
		return waitErr
	}
	if err != nil && !errors.Is(err, unix.EISCONN) {
		stop()
		return os.NewSyscallError("connect", err)
	}
	if !stop() {
		return context.Cause(ctx)
	}
	return c.file.SetWriteDeadline(time.Time{})
}

func connect(fd int, to unix.Sockaddr) error {
	for {
		if err := unix.Connect(fd, to); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func sockaddrOf(addr netip.AddrPort) (family int, to unix.Sockaddr) {
	ip := addr.Addr().Unmap()
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4(), Port: int(addr.Port())}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: ip.As16(), Port: int(addr.Port())}
}

// StaysOpen tells whether the peer keeps the connection open for stay, or sends something within it. Nothing is taken from what
// it sends.
func (c *Conn) StaysOpen(stay time.Duration) bool {
	if err := c.file.SetReadDeadline(time.Now().Add(stay)); err != nil {
		return false
	}
	var (
		n   int
		err error
	)
	waitErr := await(c.raw.Read, func(fd uintptr) bool {
		n, _, err = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	open := errors.Is(waitErr, os.ErrDeadlineExceeded) || waitErr == nil && err == nil && n > 0
	return open && c.file.SetReadDeadline(time.Time{}) == nil
}

// Close ends the connection in order: what was written still arrives.
func (c *Conn) Close() { _ = c.file.Close() }

// Reset ends the connection with a reset, so that the peer does not take the end for an orderly one.
func (c *Conn) Reset() {
	// An error means that it is closed, or broken, already.
	_ = control(c.raw, func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
	})
	c.Close()
}

// closeWrite tells the peer that nothing more comes.
func (c *Conn) closeWrite() error {
	return control(c.raw, func(fd int) error {
		return os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_WR))
	})
}

// isClosed tells whether the connection is over in both directions.
func (c *Conn) isClosed() (closed bool, err error) {
	err = control(c.raw, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return os.NewSyscallError("getsockopt", err)
		}
		closed = info.State == stateClose
		return nil
	})
	return closed, err
}

// stateClose is TCP_CLOSE of the kernel's include/net/tcp_states.h.
const stateClose = 7
