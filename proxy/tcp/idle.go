package tcp

import (
	"os"
	"time"
)

// looks is how often a relay is looked at in the time that it may be idle. It may be idle for that much longer.
const looks = 8

// sweep looks after all relays of a loop that may be idle for the same time. It belongs to the loop, and goes with its last relay.
type sweep struct {
	loop    *loop
	timeout time.Duration
	relays  []*Relay
}

// sweepFor has the relay end when nothing has moved for so long.
func (l *loop) sweepFor(r *Relay, timeout time.Duration) {
	s := l.sweeps[timeout]
	if s == nil {
		s = &sweep{loop: l, timeout: timeout}
		if l.sweeps == nil {
			l.sweeps = make(map[time.Duration]*sweep)
		}
		l.sweeps[timeout] = s
		s.await()
	}
	r.sweep, r.place, r.moved = s, int32(len(s.relays)), true
	s.relays = append(s.relays, r)
}

func (s *sweep) await() {
	time.AfterFunc(s.timeout/looks, func() { s.loop.post(s.look) })
}

func (s *sweep) look() {
	// Backwards, since one that ends leaves its place to the last.
	for i := len(s.relays) - 1; i >= 0; i-- {
		r := s.relays[i]
		if r.moved {
			r.moved, r.looks = false, 0
		} else if r.looks++; r.looks == looks {
			r.expire()
		}
	}
	if len(s.relays) == 0 {
		delete(s.loop.sweeps, s.timeout)
		return
	}
	s.await()
}

func (s *sweep) forget(r *Relay) {
	last := len(s.relays) - 1
	s.relays[r.place] = s.relays[last]
	s.relays[r.place].place = r.place
	s.relays[last] = nil
	s.relays = s.relays[:last]
}

// expire ends the relay in order, unless it still has something that one side did not take: that must not look like all there was.
func (r *Relay) expire() {
	var err error
	if r.up.held > 0 || r.down.held > 0 {
		err = os.ErrDeadlineExceeded
	}
	r.end(err)
}
