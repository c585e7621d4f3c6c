package tcp

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// MaxHead is the most bytes that [Conn.ReadHead] looks for a head in.
const MaxHead = bufferSize

// errHeadTooLong is of a head that does not end.
var errHeadTooLong = errors.New("what comes first is too long")

// ReadHead takes what a client says first from its connection, and leaves there what follows. measure is given what has come so
// far, up to [MaxHead] bytes, and tells whether the head is complete and how many bytes to take, or why it is none. done is called with
// nil or with what went wrong: measure's error, [os.ErrDeadlineExceeded] after timeout, [io.ErrUnexpectedEOF], or an error of the
// system call.
//
// It is called in the loop of the connection, which it has until it calls done there, or before it returns. Neither measure nor done
// may block.
func (c *Conn) ReadHead(timeout time.Duration, measure func([]byte) (length int, complete bool, err error), done func(error)) {
	c.ReadHeadBeside(c, timeout, measure, done)
}

// ReadHeadBeside is ReadHead of a server's connection, in the loop of its client's.
func (c *Conn) ReadHeadBeside(client *Conn, timeout time.Duration, measure func([]byte) (length int, complete bool, err error), done func(error)) {
	h := &head{loop: client.loop, conn: c, measure: measure, done: done, place: -1}
	// Mostly it has come already.
	h.look()
	if h.over {
		return
	}
	place, err := h.loop.watch(c.fd, unix.EPOLLIN|unix.EPOLLRDHUP, h)
	if err != nil {
		h.finish(err)
		return
	}
	h.place = place
	h.timer = time.AfterFunc(timeout, func() { h.loop.post(func() { h.finish(os.ErrDeadlineExceeded) }) })
}

// head is one that is waited for. It is the loop's.
type head struct {
	loop    *loop
	conn    *Conn
	measure func([]byte) (length int, complete bool, err error)
	done    func(error)
	place   int32
	timer   *time.Timer
	over    bool
}

func (h *head) ready(events uint32) {
	h.look()
	if events&(unix.EPOLLRDHUP|broken) != 0 && !h.over {
		h.finish(io.ErrUnexpectedEOF)
	}
}

// look looks whether the head has come.
func (h *head) look() {
	buffer := h.loop.buffer[:]
	n, _, err := unix.Recvfrom(h.conn.fd, buffer, unix.MSG_PEEK)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil:
		h.finish(os.NewSyscallError("recvfrom", err))
		return
	case n == 0:
		h.finish(io.ErrUnexpectedEOF)
		return
	}
	length, complete, err := h.measure(buffer[:n])
	switch {
	case err != nil:
		h.finish(err)
	case complete:
		if length > 0 {
			n, err = unix.Read(h.conn.fd, buffer[:length])
		}
		if err == nil && n < length {
			err = io.ErrUnexpectedEOF
		}
		h.finish(err)
	case n == MaxHead:
		h.finish(errHeadTooLong)
	}
}

func (h *head) finish(err error) {
	if h.over {
		return
	}
	h.over = true
	if h.timer != nil {
		h.timer.Stop()
	}
	if h.place >= 0 {
		err = errors.Join(err, h.loop.unwatch(h.conn.fd, h.place))
	}
	h.done(err)
}
