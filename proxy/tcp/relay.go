package tcp

import (
	"math"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Counters count the bytes of a connection, or of many.
type Counters struct {
	// In is what came from clients and went to servers, Out the other way.
	In, Out atomic.Uint64
}

const (
	// broken are the events after which nothing can be sent, and reading tells why.
	broken = unix.EPOLLERR | unix.EPOLLHUP
	// incoming are the events that a relay always wants to know of.
	incoming = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP
	// turn is how often a flow reads before others have their turn: once for data, and once for the end that came with it.
	turn = 2
)

// Relay moves bytes between a client and a server until both have ended, or one of them breaks, and closes both. An end of one
// side is passed on alone: the other one may go on sending. A reset, and any other failure, is passed on as a reset. A side that
// does not read stops the other one from sending: what is on the way is bounded by the kernel's buffers and one of ours.
//
// It lives in the loop of its client, and while there is nothing to move it costs nothing but its memory.
type Relay struct {
	loop           *loop
	client, server end
	up, down       flow
	done           func(error)
	// sweep ends it when it is idle for too long, nil for none, which has it at place. looks is how many times in a row that has found
	// it idle, moved tells that something has moved since the last time.
	sweep       *sweep
	place       int32
	looks       int8
	moved, over bool
}

// end is one side's socket.
type end struct {
	relay *Relay
	// in is the flow that is read here, out the one that is written here.
	in, out *flow
	fd      int
	// place is the loop's, -1 for none.
	place int32
	// readable tells that there may be something to read, toEnd that this is so until reading has found nothing more: a read
	// that fills no buffer then says nothing.
	readable, toEnd bool
	// urgent tells of urgent data, which splice(2) does not get past.
	urgent bool
	// asksForRoom tells that the loop watches for room to write.
	asksForRoom bool
}

// flow is one direction. While nothing is on the way it has neither pipe nor buffer.
type flow struct {
	relay    *Relay
	from, to *end
	moved    *atomic.Uint64
	pipe     *pipe
	// buffer is the loop's, or the flow's own when the other side did not take all at once.
	buffer *[bufferSize]byte
	// held are the bytes in pipe, or in buffer from start on.
	start, held int32
	// halfClosed is how long the relay may be idle after this flow has ended, in milliseconds, 0 for as long as it likes. It is here
	// since it makes no flow larger.
	halfClosed int32
	// bulk tells that the last bytes came faster than a buffer takes them, which is when splicing pays.
	bulk bool
	// ended tells that the end was passed on, failed that what was read can't be sent any more.
	ended, failed bool
}

// RelayOptions are how a relay treats its connections. The zero value has no opening and no timeouts.
type RelayOptions struct {
	// Opening goes to the server before anything else, and counts as coming from the client. It is at most 32 KiB.
	Opening []byte
	// IdleTimeout is how long the relay may go without a byte in either direction, 0 for as long as it likes. It then ends, an eighth
	// of that time later at the most.
	IdleTimeout time.Duration
	// HalfClosedTimeout is the same for a relay of which one side has ended, in whole milliseconds up to [math.MaxInt32]. It does not
	// count while one side does not take what there is for it: that side is there, or the kernel finds out.
	HalfClosedTimeout time.Duration
}

// halfClosedTimeout is 0 where the time for idle relays is as short.
func (o RelayOptions) halfClosedTimeout() time.Duration {
	if o.IdleTimeout > 0 && o.IdleTimeout <= o.HalfClosedTimeout {
		return 0
	}
	return min(o.HalfClosedTimeout, math.MaxInt32*time.Millisecond)
}

// NewRelay begins to move bytes, and takes over both connections. done is called in the client's loop when it is over, and must not
// block. Its error is nil when both sides have ended, or were idle for too long, [os.ErrClosed] after Reset, or what broke.
func NewRelay(client, server *Conn, options RelayOptions, counters *Counters, done func(error)) *Relay {
	r := &Relay{loop: client.loop, done: done}
	r.client = end{relay: r, in: &r.up, out: &r.down, fd: client.take(), place: -1}
	r.server = end{relay: r, in: &r.down, out: &r.up, fd: server.take(), place: -1}
	halfClosed := int32(options.halfClosedTimeout().Milliseconds())
	r.up = flow{relay: r, from: &r.client, to: &r.server, moved: &counters.In, halfClosed: halfClosed}
	r.down = flow{relay: r, from: &r.server, to: &r.client, moved: &counters.Out, halfClosed: halfClosed}
	r.loop.post(func() { r.begin(options) })
	return r
}

// Reset ends the relay with a reset of both sides, so that neither takes the end for one that the other side wanted. It may be
// called from any goroutine, and again; it does not wait. then, unless nil, is called in the client's loop, and must not block: it
// gets false when the relay was over already.
func (r *Relay) Reset(then func(reset bool)) {
	r.loop.post(func() {
		reset := !r.over
		r.closeBoth(os.ErrClosed)
		if then != nil {
			then(reset)
		}
	})
}

func (r *Relay) begin(options RelayOptions) {
	for _, e := range [...]*end{&r.client, &r.server} {
		var err error
		if e.place, err = r.loop.watch(e.fd, incoming, e); err != nil {
			r.closeBoth(err)
			return
		}
	}
	r.sweepBy(limits{options.IdleTimeout, options.IdleTimeout})
	if len(options.Opening) > 0 {
		r.up.buffer = r.loop.buffer
		r.up.held = int32(copy(r.up.buffer[:], options.Opening))
		r.up.run()
	}
}

// closeBoth closes both sides, with a reset after an error.
func (r *Relay) closeBoth(err error) {
	if r.over {
		return
	}
	r.over = true
	for _, e := range [...]*end{&r.client, &r.server} {
		e.in.release()
		if e.place >= 0 {
			r.loop.forget(e.place)
		}
		closeSocket(e.fd, err != nil)
	}
	r.sweepBy(limits{})
	r.loop.load.Add(-1)
	r.done(err)
}

// ready takes note of what the loop tells of a socket.
func (e *end) ready(events uint32) {
	r := e.relay
	if events&(incoming|broken) != 0 {
		e.readable = true
		e.toEnd = e.toEnd || events&(incoming|broken) != unix.EPOLLIN
		e.urgent = e.urgent || events&unix.EPOLLPRI != 0
		if events&broken != 0 && e.in.ended {
			// It had said its last, but does not hear what it is told since.
			r.closeBoth(os.NewSyscallError("poll", unix.ECONNRESET))
			return
		}
		if e.in.held == 0 {
			e.in.run()
		}
	}
	if events&(unix.EPOLLOUT|broken) != 0 && !r.over && e.out.held > 0 {
		e.out.run()
	}
}

// run moves what can be moved now. When it returns, the loop's buffer is free for others.
func (f *flow) run() {
	for reads := 0; ; {
		switch {
		case f.relay.over:
			return
		case f.held > 0:
			if !f.drain() {
				return
			}
		case f.ended, f.failed, !f.from.readable:
			f.release()
			return
		case reads == turn:
			f.release()
			f.relay.loop.runnable = append(f.relay.loop.runnable, f)
			return
		default:
			reads++
			f.fill()
		}
	}
}

// fill reads once. Nothing is held.
func (f *flow) fill() {
	splices := f.bulk && !f.from.urgent
	if splices && f.pipe == nil {
		f.pipe = pipes.get()
	}
	if !splices && f.pipe != nil {
		f.release()
	}
	var n int
	var err error
	if f.pipe != nil {
		var moved int64
		moved, err = unix.Splice(f.from.fd, nil, f.pipe.w, nil, pipeSize, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		n = int(moved)
	} else {
		if f.buffer == nil {
			f.buffer = f.relay.loop.buffer
		}
		n, err = unix.Read(f.from.fd, f.buffer[:])
		if err == unix.EAGAIN && f.from.urgent {
			// Where urgent data is, the kernel says so too when a signal is pending, and the runtime sends signals.
			n, err = unix.Read(f.from.fd, f.buffer[:])
		}
		if n < bufferSize && !f.from.toEnd {
			// The next byte to come is an event.
			f.from.readable = false
		}
	}
	switch {
	case err == unix.EINTR:
		f.from.readable = true
	case err == unix.EAGAIN:
		f.from.readable = false
	case err != nil:
		f.relay.closeBoth(os.NewSyscallError("recv", err))
	case n == 0:
		f.propagateEOF()
	default:
		f.start, f.held = 0, int32(n)
		f.relay.moved = true
		f.bulk = n >= bufferSize
	}
}

// drain passes on what is held; false when the other side takes no more now.
func (f *flow) drain() bool {
	for f.held > 0 {
		var n int
		var err error
		if f.pipe != nil {
			var moved int64
			moved, err = unix.Splice(f.pipe.r, nil, f.to.fd, nil, int(f.held), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			n = int(moved)
		} else {
			n, err = unix.Write(f.to.fd, f.buffer[f.start:f.start+f.held])
		}
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			f.awaitRoom()
			return false
		case err != nil:
			f.fail(err)
			return false
		default:
			f.start += int32(n)
			f.held -= int32(n)
			f.moved.Add(uint64(n))
			f.relay.moved = true
		}
	}
	return true
}

// awaitRoom has the loop tell when the other side takes more.
func (f *flow) awaitRoom() {
	loop := f.relay.loop
	if f.buffer == loop.buffer {
		loop.buffer = takeBuffer()
	}
	if !f.to.asksForRoom {
		f.to.asksForRoom = true
		if err := loop.rewatch(f.to.fd, incoming|unix.EPOLLOUT, f.to.place); err != nil {
			f.relay.closeBoth(err)
		}
	}
}

// fail gives up on the side that is written to. What it sent before is on its way still in the other direction, which ends by
// itself: nothing more can come.
func (f *flow) fail(err error) {
	f.failed = true
	f.release()
	back := f.to.in
	if back.ended || back.failed {
		f.relay.closeBoth(os.NewSyscallError("send", err))
		return
	}
	f.to.readable, f.to.toEnd = true, true
	if back.held == 0 {
		back.run()
	}
}

// propagateEOF passes on that nothing more comes.
func (f *flow) propagateEOF() {
	back := f.to.in
	var err error
	switch {
	case back.failed:
		// The kernel tells of a reset once, and a write took the news: to a read it looks like an end.
		err = os.NewSyscallError("recv", unix.ECONNRESET)
	case !back.ended:
		f.ended = true
		f.release()
		err = os.NewSyscallError("shutdown", unix.Shutdown(f.to.fd, unix.SHUT_WR))
		if err == nil {
			f.relay.halfClose(time.Duration(f.halfClosed) * time.Millisecond)
			return
		}
	}
	f.relay.closeBoth(err)
}

// release gives back the pipe or the buffer, and what is in it.
func (f *flow) release() {
	if f.pipe != nil {
		pipes.put(f.pipe, f.held == 0)
		f.pipe = nil
	}
	if f.buffer != nil && f.buffer != f.relay.loop.buffer {
		buffers.Put(f.buffer)
	}
	f.buffer = nil
	f.held = 0
}
