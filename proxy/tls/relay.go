package tls

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"dokku-expose/proxy/tcp"
)

const (
	// smallBuffer is what an idle connection keeps for each direction, largeBuffer holds two records of TLS, for one that fills the small one.
	smallBuffer = 4 << 10
	largeBuffer = 32 << 10
	// looks is how often in its time a relay is looked at whether it is idle.
	looks = 8
)

var buffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// Relay moves bytes between a client that speaks TLS and a server that does not, and treats their ends as a [tcp.Relay] does.
type Relay struct {
	client  *Conn
	server  *net.TCPConn
	options tcp.RelayOptions
	// moves counts reads and writes, writing the writes under way, halves the sides that have ended.
	moves           atomic.Uint64
	writing, halves atomic.Int32

	mu   sync.Mutex
	over bool
	// err is why it is over, failed why one direction is.
	err, failed error
	timer       *time.Timer
	// seen are the moves at the last look, and idle is since when there has been no other.
	seen uint64
	idle time.Time
}

// NewRelay begins to move bytes, and takes over both connections. done is called in a goroutine of its own when it is over, with the same
// errors as of a [tcp.Relay].
func NewRelay(client *Conn, server *net.TCPConn, options tcp.RelayOptions, counters *tcp.Counters, done func(error)) *Relay {
	r := &Relay{client: client, server: server, options: options, idle: time.Now()}
	if options.IdleTimeout > 0 || options.HalfClosedTimeout > 0 {
		r.mu.Lock()
		r.timer = time.AfterFunc(r.interval(), r.look)
		r.mu.Unlock()
	}
	go func() {
		var flows sync.WaitGroup
		flows.Go(func() { r.flow(server, client, &counters.In, options.Opening) })
		flows.Go(func() { r.flow(client, server, &counters.Out, nil) })
		flows.Wait()
		r.end(r.failed)
		done(r.err)
	}()
	return r
}

// Reset ends the relay with a reset of both sides, see [tcp.Relay.Reset]. then is called in a goroutine of its own.
func (r *Relay) Reset(then func(reset bool)) {
	go func() {
		reset := r.end(os.ErrClosed)
		if then != nil {
			then(reset)
		}
	}()
}

// end closes both sides, with a reset after an error. It is false when the relay was over already.
func (r *Relay) end(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.close(err)
}

// close does the work of end. The mutex is held.
func (r *Relay) close(err error) bool {
	if r.over {
		return false
	}
	r.over, r.err = true, err
	if r.timer != nil {
		r.timer.Stop()
	}
	if err != nil {
		reset(r.client.tcp)
		reset(r.server)
		return true
	}
	// Both were told what there is to tell.
	_ = r.client.tcp.Close()
	_ = r.server.Close()
	return true
}

// halfCloser is a side.
type halfCloser interface {
	io.ReadWriter
	CloseWrite() error
}

// flow moves bytes of one direction until from ends, which it passes on, or to takes no more. What to sent before that is still on its way
// in the other direction.
func (r *Relay) flow(to, from halfCloser, moved *atomic.Uint64, opening []byte) {
	write := func(b []byte) error {
		r.writing.Add(1)
		n, err := to.Write(b)
		r.writing.Add(-1)
		moved.Add(uint64(n))
		r.moves.Add(1)
		return err
	}
	var (
		small  [smallBuffer]byte
		large  *[largeBuffer]byte
		failed error
	)
	if len(opening) > 0 {
		failed = write(opening)
	}
	for failed == nil {
		b := small[:]
		if large != nil {
			b = large[:]
		}
		n, err := from.Read(b)
		r.moves.Add(1)
		if n > 0 {
			failed = write(b[:n])
		}
		switch {
		case n == smallBuffer && large == nil:
			large = buffers.Get().(*[largeBuffer]byte)
		case n < smallBuffer && large != nil:
			buffers.Put(large)
			large = nil
		}
		switch {
		case err == nil || failed != nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			// Many clients close without the alert that TLS has for it. The protocol inside tells whether something is missing.
			r.halves.Add(1)
			if failed = to.CloseWrite(); failed == nil {
				return
			}
		default:
			r.end(err)
			return
		}
	}
	// The other direction ends by itself. Neither side may take the end for an orderly one then.
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = failed
}

// interval is the time between two looks.
func (r *Relay) interval() time.Duration {
	limit := r.options.IdleTimeout
	if half := r.options.HalfClosedTimeout; limit == 0 || half > 0 && half < limit {
		limit = half
	}
	return max(limit/looks, time.Millisecond)
}

// look ends a relay that has been idle for too long.
func (r *Relay) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	if moves := r.moves.Load(); moves != r.seen {
		r.seen, r.idle = moves, time.Now()
	}
	idle := time.Since(r.idle)
	beyond := func(limit time.Duration) bool { return limit > 0 && idle >= limit }
	// A half-closed relay waits for a side that does not take what there is for it: that side is there, or the kernel finds out.
	if beyond(r.options.IdleTimeout) || r.halves.Load() > 0 && r.writing.Load() == 0 && beyond(r.options.HalfClosedTimeout) {
		r.close(nil)
		return
	}
	r.timer.Reset(r.interval())
}
