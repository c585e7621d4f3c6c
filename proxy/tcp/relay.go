package tcp

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Counters count the bytes of a connection, or of many.
type Counters struct {
	// In is what came from clients and went to servers, Out the other way.
	In, Out atomic.Uint64
}

// Relay moves bytes between a client and a server until both have ended, or one of them breaks, and closes both. An end of one
// side is passed on alone: the other one may go on sending. A reset, and any other failure, is passed on as a reset, and is the
// error returned. A side that does not read stops the other one from sending: what is on the way is bounded by the kernel's
// buffers. Whoever calls Reset on both ends the relay from outside.
func Relay(client, server *Conn, counters *Counters) error {
	up := &flow{from: client, to: server, moved: &counters.In}
	down := &flow{from: server, to: client, moved: &counters.Out}
	up.reverse, down.reverse = down, up
	ended := make(chan error, 1)
	go func() { ended <- up.run() }()
	err := down.run()
	if err = errors.Join(err, <-ended); err != nil {
		client.Reset()
		server.Reset()
		return err
	}
	client.Close()
	server.Close()
	return nil
}

// flow is one direction. A pipe or a buffer is taken when there are bytes to move, and given back when there are none.
type flow struct {
	from, to *Conn
	moved    *atomic.Uint64

	// bulk tells that the last bytes came faster than a buffer takes them, which is when splicing pays.
	bulk   bool
	pipe   *pipe
	buffer *[bufferSize]byte
	// held are the bytes in pipe, or in buffer from start on.
	start, held int
	err         error
	// ended tells that the end was passed on, reverse is the other direction.
	ended   atomic.Bool
	reverse *flow
}

func (f *flow) run() error {
	defer f.release()
	// Made once: a closure for each wait would be garbage for each message.
	fill, drain := f.fill, f.drain
	for {
		err := f.wait(f.from.raw.Read, fill)
		if errors.Is(err, io.EOF) {
			err = f.end()
			if err == nil {
				return nil
			}
		}
		if err != nil {
			f.from.Reset()
			f.to.Reset()
			return fmt.Errorf("read: %w", err)
		}
		if err := f.wait(f.to.raw.Write, drain); err != nil {
			// What the broken side sent before is on its way still in the other direction, which ends by itself: nothing
			// more can come.
			return fmt.Errorf("write: %w", err)
		}
	}
}

// end passes on that nothing more comes.
func (f *flow) end() error {
	// The kernel tells of a reset once: where the other direction's write took the news, reading looks like an end. A socket
	// that we have not ended ourselves, and that is closed for good, was reset.
	if !f.reverse.ended.Load() {
		closed, err := f.from.isClosed()
		if err != nil {
			return err
		}
		if closed {
			return os.NewSyscallError("recv", unix.ECONNRESET)
		}
	}
	f.ended.Store(true)
	return f.to.closeWrite()
}

// wait calls step each time the socket may be ready, until it is done.
func (f *flow) wait(ready func(func(uintptr) bool) error, step func(uintptr) bool) error {
	f.err = nil
	if err := await(ready, step); err != nil {
		return err
	}
	return f.err
}

// fill takes what there is to read; false when that is nothing yet.
func (f *flow) fill(fd uintptr) bool {
	f.take()
	var n int
	var err error
	for {
		if f.pipe != nil {
			var moved int64
			moved, err = unix.Splice(int(fd), nil, f.pipe.w, nil, pipeSize, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			n = int(moved)
		} else {
			n, err = unix.Read(int(fd), f.buffer[:])
		}
		if err != unix.EINTR {
			break
		}
	}
	switch {
	case err == unix.EAGAIN:
		f.release()
		return false
	case err != nil:
		f.err = os.NewSyscallError("recv", err)
	case n == 0:
		f.err = io.EOF
	default:
		f.start, f.held = 0, n
		f.bulk = n >= bufferSize
	}
	return true
}

// drain passes on what fill took; false when the other side takes no more yet.
func (f *flow) drain(fd uintptr) bool {
	for f.held > 0 {
		var n int
		var err error
		if f.pipe != nil {
			var moved int64
			moved, err = unix.Splice(f.pipe.r, nil, int(fd), nil, f.held, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			n = int(moved)
		} else {
			n, err = unix.Write(int(fd), f.buffer[f.start:f.start+f.held])
		}
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return false
		case err != nil:
			f.err = os.NewSyscallError("send", err)
			return true
		}
		f.start += n
		f.held -= n
		f.moved.Add(uint64(n))
	}
	return true
}

// take gets a pipe or a buffer, as the last bytes suggest. It is called with nothing in hand but what may be kept.
func (f *flow) take() {
	if f.bulk == (f.pipe != nil) && (f.pipe != nil || f.buffer != nil) {
		return
	}
	if f.bulk {
		if p := pipes.get(); p != nil {
			f.release()
			f.pipe = p
			return
		}
	}
	if f.buffer == nil {
		f.release()
		f.buffer = buffers.Get().(*[bufferSize]byte) //nolint:errcheck // the pool holds nothing else
	}
}

// release gives back the pipe or the buffer.
func (f *flow) release() {
	if f.pipe != nil {
		pipes.put(f.pipe, f.held == 0)
		f.pipe = nil
	}
	if f.buffer != nil {
		buffers.Put(f.buffer)
		f.buffer = nil
	}
}
