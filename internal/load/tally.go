package load

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"time"
)

// outcome is how a connection ended for its client.
type outcome int

const (
	answered    outcome = iota // greeting and echo came
	refused                    // nobody listened
	reset                      // RST while connecting, before or after the greeting
	closedEarly                // closed before the greeting
	cut                        // closed after the greeting
	timedOut                   // connecting, greeting or echo took longer than Config.Timeout
	garbled                    // not what the app sends
	local                      // the client's own system failed: out of ports or files
	ended                      // by its own container, which the caller had stopped
	stale                      // answered by a version or container that was no longer current when it began
	outcomes
)

func (o outcome) String() string {
	return [...]string{"answered", "refused", "reset", "closed before the greeting", "closed after the greeting",
		"timed out", "garbled", "failed on the client's side", "ended by its container", "answered by an old container"}[o]
}

func (c *connection) outcome(err error) outcome {
	var timeout net.Error
	switch {
	case err == nil:
		return answered
	case errors.Is(err, errGarbled):
		return garbled
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return reset
	case errors.As(err, &timeout) && timeout.Timeout():
		return timedOut
	case errors.Is(err, io.EOF) && c.greeted.IsZero():
		return closedEarly
	case errors.Is(err, io.EOF):
		return cut
	}
	return local
}

// phase counts what began in one part of the load.
type phase struct {
	name    string
	began   time.Duration
	counts  [outcomes]int
	answers map[string]int // by version
	slowest time.Duration
	held    Held
}

// version is what was seen of one version.
type version struct {
	answers     int
	first, last time.Duration
}

// maxFailures is how many failures a report describes. They are counted all.
const maxFailures = 10

// begin notes that a connection begins.
func (l *Load) begin() *connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &connection{phase: l.phases[len(l.phases)-1], began: time.Now()}
}

// attempted counts an opener's connection, or the opening of a holder's.
func (l *Load) attempted(c *connection, err error) {
	if l.ctx.Err() != nil {
		return // cut by us
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	o := c.outcome(err)
	if c.greeted.IsZero() && (o == closedEarly || o == reset) && l.diedUngreeted(c) {
		o = ended
	}
	if !c.greeted.IsZero() {
		l.greeted(c)
		switch {
		case l.isStale(c):
			o = stale
		case o != answered && l.endedByContainer(c):
			o = ended
		}
	}
	c.phase.counts[o]++
	switch o {
	case answered:
		l.wake(c)
	case ended:
	default:
		l.failure(c, o, err)
	}
}

// wake tells those who wait for answers.
func (l *Load) wake(c *connection) {
	l.waiters = slices.DeleteFunc(l.waiters, func(w *waiter) bool {
		if !c.began.After(w.since) {
			return false
		}
		if w.left--; w.left > 0 {
			return false
		}
		close(w.done)
		return true
	})
}

// greeted counts the answer that a greeting is.
func (l *Load) greeted(c *connection) {
	p := c.phase
	p.answers[c.version]++
	p.slowest = max(p.slowest, c.greeted.Sub(c.began))
	v := l.versions[c.version]
	if v == nil {
		v = &version{first: c.greeted.Sub(l.began)}
		l.versions[c.version] = v
	}
	v.answers++
	v.last = max(v.last, c.greeted.Sub(l.began))
	l.containers[c.container]++
}

// isStale tells whether the connection got an answer that none may get any more that begins when it did.
func (l *Load) isStale(c *connection) bool {
	since, old := l.old[c.version]
	r, retired := l.retired[c.container]
	return old && c.began.After(since) || retired && c.began.After(r.at)
}

// holding counts a connection that a holder has now.
func (l *Load) holding(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.phase.held.Opened++
	l.held[c.version]++
}

// released counts the end of a held connection: err is why, nil when the load ended it.
func (l *Load) released(c *connection, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[c.version]--
	now := l.phases[len(l.phases)-1]
	switch {
	case err == nil || l.ctx.Err() != nil: // the load's own end
	case l.endedByContainer(c):
		now.held.Ended++
	default:
		now.held.Broken++
		l.failure(c, c.outcome(err), fmt.Errorf("held for %s: %w", time.Since(c.began).Round(time.Millisecond), err))
	}
}

// endedByContainer tells whether the connection's own container may be what ended it, now.
func (l *Load) endedByContainer(c *connection) bool {
	r, retired := l.retired[c.container]
	return retired && time.Now().After(r.mayEnd) || slices.ContainsFunc(l.deaths, func(d *death) bool {
		return d.container == c.container && d.covers(c)
	})
}

// diedUngreeted tells whether a connection without a greeting is taken for one of a container that died.
func (l *Load) diedUngreeted(c *connection) bool {
	for _, d := range l.deaths {
		if d.unknown > 0 && d.covers(c) {
			d.unknown--
			return true
		}
	}
	return false
}

// covers tells whether the connection was there before the death was over.
func (d *death) covers(c *connection) bool { return d.until.IsZero() || c.began.Before(d.until) }

func (l *Load) failure(c *connection, o outcome, err error) {
	if len(l.failures) >= maxFailures {
		return
	}
	// Only the cause: a net.OpError begins with addresses that differ each time.
	var op *net.OpError
	if errors.As(err, &op) {
		err = fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	l.failures = append(l.failures, Failure{
		Phase: c.phase.name, Began: c.began.Sub(l.began), Took: time.Since(c.began),
		Version: c.version, Container: c.container, What: o.String(), Err: err,
	})
}
