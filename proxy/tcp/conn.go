package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a connection that nobody waits for anything on. It belongs to one goroutine at a time, which closes it, or gives it to
// a [Relay].
type Conn struct {
	fd int
	// loop is where a client's connection is counted, nil for a server's.
	loop *loop
}

// Remote is the address of the peer, IPv4 where it comes in IPv6 form. It is an error where the connection is no more.
func (c *Conn) Remote() (netip.AddrPort, error) {
	addr, err := unix.Getpeername(c.fd)
	return addrPortOf(addr), os.NewSyscallError("getpeername", err)
}

// Local is the address of this side, in the same form.
func (c *Conn) Local() (netip.AddrPort, error) {
	addr, err := unix.Getsockname(c.fd)
	return addrPortOf(addr), os.NewSyscallError("getsockname", err)
}

// Write sends bytes, without waiting for room: it may send fewer.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := unix.Write(c.fd, b)
	return max(n, 0), os.NewSyscallError("write", err)
}

// Post has a task run in the loop of a client's connection. It never waits for the task.
func (c *Conn) Post(task func()) { c.loop.post(task) }

// Close ends the connection in order: what was written still arrives. It may be called again.
func (c *Conn) Close() { c.close(false) }

// Reset ends the connection with a reset, so that the peer does not take the end for an orderly one. It may be called again.
func (c *Conn) Reset() { c.close(true) }

// Shutdown ends both directions and leaves the connection to be closed, which ends a [Conn.ReadHead] under way. It does nothing to a
// connection that was closed or given away.
func (c *Conn) Shutdown() {
	if c.fd >= 0 {
		// It fails on a connection that has ended already.
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
	}
}

func (c *Conn) close(reset bool) {
	fd := c.take()
	if fd < 0 {
		return
	}
	closeSocket(fd, reset)
	if c.loop != nil {
		c.loop.load.Add(-1)
	}
}

// Detach gives the connection to package net: it is the caller's to close, and after an error closed. This Conn is closed then.
func (c *Conn) Detach() (*net.TCPConn, error) {
	file := os.NewFile(uintptr(c.take()), "connection")
	if c.loop != nil {
		c.loop.load.Add(-1)
	}
	// FileConn makes a copy.
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// take makes the descriptor the caller's.
func (c *Conn) take() int {
	fd := c.fd
	c.fd = -1
	return fd
}

func closeSocket(fd int, reset bool) {
	if reset {
		// It fails on a socket that is broken already, which needs no reset.
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
	}
	_ = unix.Close(fd)
}

// Dial connects to addr and calls done with the connection or an error, in a loop, or before Dial returns; done must not block.
// It gives up after timeout ([os.ErrDeadlineExceeded]) or when ctx ends (its cause). What fails is an error of the system call:
// errors.Is with ECONNREFUSED, EMFILE. With stay, the peer must also keep the connection open for so long, or send something
// within it; nothing is taken from what it sends.
func Dial(ctx context.Context, addr netip.AddrPort, timeout, stay time.Duration, done func(*Conn, error)) {
	d := &dialing{addr: addr, stay: stay, done: done, fd: -1, place: -1}
	d.start(ctx, timeout)
}

func (d *dialing) start(ctx context.Context, timeout time.Duration) {
	if ctx.Err() != nil {
		d.fail(context.Cause(ctx))
		return
	}
	if err := d.begin(); err != nil {
		d.fail(err)
		return
	}
	// To a peer on this very host it has been made by now.
	connected, err := d.connect()
	switch {
	case err != nil:
		d.fail(err)
	case connected && d.stay == 0:
		d.succeed()
	default:
		d.connected = connected
		if d.loop, err = anyLoop(); err != nil {
			d.fail(err)
			return
		}
		d.loop.post(func() { d.await(ctx, timeout) })
	}
}

// dialing is an attempt to connect. Once it has a loop it is the loop's.
type dialing struct {
	addr      netip.AddrPort
	sockaddr  unix.Sockaddr
	fd        int
	connected bool
	// probe keeps the connection from the peer, see [Probe].
	probe bool
	stay  time.Duration
	done  func(*Conn, error)

	loop  *loop
	place int32
	// until is when the timer is to end what is waited for.
	until time.Time
	timer *time.Timer
	// unbind ends the watch over the context.
	unbind func() bool
	over   bool
}

// begin opens the socket and has it connect.
func (d *dialing) begin() (err error) {
	family, sockaddr := sockaddrOf(d.addr)
	d.sockaddr = sockaddr
	d.fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := d.prepare(); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	_, err = d.connect()
	return err
}

// prepare sets the socket's options.
func (d *dialing) prepare() error {
	if d.probe {
		return delayACK(d.fd)
	}
	// The interval and the count stay the kernel's: two calls less, for a peer on this very host.
	return errors.Join(
		unix.SetsockoptInt(d.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		unix.SetsockoptInt(d.fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepaliveIdle),
	)
}

// connect tells whether the socket has connected. Asked again, connect(2) tells what has become of the first call.
func (d *dialing) connect() (bool, error) {
	for {
		switch err := unix.Connect(d.fd, d.sockaddr); err {
		case unix.EINTR:
		case nil, unix.EISCONN:
			return true, nil
		case unix.EINPROGRESS, unix.EALREADY:
			return false, nil
		default:
			return false, os.NewSyscallError("connect", err)
		}
	}
}

// await has the loop watch the socket.
func (d *dialing) await(ctx context.Context, timeout time.Duration) {
	place, err := d.loop.watch(d.fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP, d)
	if err != nil {
		d.fail(err)
		return
	}
	d.place = place
	if d.connected {
		timeout = d.stay
	}
	d.until = time.Now().Add(timeout)
	d.timer = time.AfterFunc(timeout, func() { d.loop.post(d.expire) })
	d.unbind = context.AfterFunc(ctx, func() { d.loop.post(func() { d.fail(context.Cause(ctx)) }) })
}

func (d *dialing) expire() {
	switch {
	case time.Now().Before(d.until): // it was set anew just then
	case d.connected:
		d.succeed()
	default:
		d.fail(os.ErrDeadlineExceeded)
	}
}

func (d *dialing) ready(uint32) {
	if !d.connected {
		connected, err := d.connect()
		switch {
		case err != nil:
			d.fail(err)
			return
		case !connected:
			return
		case d.stay == 0:
			d.succeed()
			return
		}
		d.connected = true
		d.until = time.Now().Add(d.stay)
		d.timer.Reset(d.stay)
	}
	var peek [1]byte
	n, _, err := unix.Recvfrom(d.fd, peek[:], unix.MSG_PEEK)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case err == nil && n > 0:
		d.succeed()
	default:
		d.fail(errClosedAtOnce)
	}
}

// errClosedAtOnce is of a peer that did not stay.
var errClosedAtOnce = errors.New("the connection is closed at once")

func (d *dialing) succeed() { d.finish(&Conn{fd: d.fd}, nil) }

func (d *dialing) fail(err error) {
	d.finish(nil, fmt.Errorf("connect to %s: %w", d.addr, err))
}

func (d *dialing) finish(conn *Conn, err error) {
	if d.over {
		return
	}
	d.over = true
	if d.timer != nil {
		d.timer.Stop()
		d.unbind()
	}
	if d.place >= 0 {
		if unwatchErr := d.loop.unwatch(d.fd, d.place); err == nil && unwatchErr != nil {
			conn, err = nil, unwatchErr
		}
	}
	if err != nil && d.fd >= 0 {
		closeSocket(d.fd, true)
	}
	d.done(conn, err)
}

func sockaddrOf(addr netip.AddrPort) (family int, to unix.Sockaddr) {
	ip := addr.Addr().Unmap()
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4(), Port: int(addr.Port())}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: ip.As16(), Port: int(addr.Port())}
}

// addrPortOf is the zero value where there is no address.
func addrPortOf(from unix.Sockaddr) netip.AddrPort {
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
