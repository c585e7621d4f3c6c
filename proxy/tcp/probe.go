package tcp

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Probe finds out whether addr accepts connections, without making one: the peer's kernel answers the SYN, and gets a reset before it
// has an ACK. No accept(2) ever returns such a connection, so the app behind addr logs nothing, counts nothing and ends no session for
// it. HAProxy's connect check works the same way. done and the errors are as for [Dial].
func Probe(ctx context.Context, addr netip.AddrPort, timeout time.Duration, done func(error)) {
	d := &dialing{addr: addr, probe: true, fd: -1, place: -1, done: func(conn *Conn, err error) {
		if err == nil {
			conn.Reset()
		}
		done(err)
	}}
	d.start(ctx, timeout)
}

// delayACK has the kernel keep back the ACK that completes the handshake, for up to 200 ms: time enough to reset the connection instead.
func delayACK(fd int) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
}
