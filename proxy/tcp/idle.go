package tcp

import (
	"os"
	"time"
)

// looks is how often a relay is looked at in the time that it may be idle. It may be idle for that much longer.
const looks = 8

// limits are how long a relay may be idle, 0 for as long as it likes: any, and one in which a side does not take what there is for it.
type limits struct{ idle, stalled time.Duration }

// sweep looks after all relays of a loop that have the same limits. It belongs to the loop, and goes with its last relay.
type sweep struct {
	limits
	loop   *loop
	relays []*Relay
}

// sweepBy gives the relay other limits.
func (r *Relay) sweepBy(by limits) {
	if r.sweep != nil {
		r.sweep.forget(r)
		r.sweep = nil
	}
	if by.idle == 0 {
		return
	}
	l := r.loop
	s := l.sweeps[by]
	if s == nil {
		s = &sweep{limits: by, loop: l}
		if l.sweeps == nil {
			l.sweeps = make(map[limits]*sweep)
		}
		l.sweeps[by] = s
		s.await()
	}
	r.sweep, r.place, r.looks, r.moved = s, int32(len(s.relays)), 0, true
	s.relays = append(s.relays, r)
}

func (s *sweep) await() {
	time.AfterFunc(s.idle/looks, func() { s.loop.post(s.look) })
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
		delete(s.loop.sweeps, s.limits)
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

// halfClose has a relay of which one side has ended be idle for a shorter time, unless that is 0.
func (r *Relay) halfClose(idle time.Duration) {
	if idle == 0 {
		return
	}
	var stalled time.Duration
	if r.sweep != nil {
		stalled = r.sweep.stalled
	}
	r.sweepBy(limits{idle, stalled})
}

// expire ends the relay in order, unless it still has something that one side did not take: that must not look like all there was.
func (r *Relay) expire() {
	var err error
	if r.up.held > 0 || r.down.held > 0 {
		switch stalled := r.sweep.stalled; stalled {
		case r.sweep.idle:
			err = os.ErrDeadlineExceeded
		case 0:
			r.looks = 0
			return
		default:
			r.sweepBy(limits{stalled, stalled})
			return
		}
	}
	r.closeBoth(err)
}
