package proxy

import (
	"net/netip"
	"sync"
	"time"

	"dokku-expose/deploy"
)

const (
	// maxSources bounds the sources that a table counts. When there are more, those that have not been seen for the longest time
	// are forgotten.
	maxSources = 100_000
	// sourceBits are what one source has of IPv6: the least that a provider gives to a customer.
	sourceBits = 64
)

// rateTable counts the connections of each source in the last [deploy.RatePeriod].
type rateTable struct {
	// now is the time since some moment.
	now func() time.Duration

	mu sync.Mutex
	// recent are the sources that were seen since turned, former those before: no source needs a timer, and all that have not
	// been seen for long go at once. There is no pointer in them, which the garbage collector would follow.
	recent, former map[[16]byte]window
	turned         time.Duration
}

// window counts the connections of one source in a period, and in the one before.
type window struct {
	began         time.Duration
	count, before int32
}

func newRateTable() *rateTable {
	start := time.Now()
	return &rateTable{now: func() time.Duration { return time.Since(start) }, recent: make(map[[16]byte]window)}
}

// take counts one more connection of a source, when that has made fewer than most in the last period. Else it does not count.
func (t *rateTable) take(ip netip.Addr, most int) bool {
	source := sourceOf(ip)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.recent) >= maxSources/2 || now-t.turned >= 2*deploy.RatePeriod {
		t.turn(now)
	}
	w, seen := t.recent[source]
	if !seen {
		w = t.former[source]
		delete(t.former, source)
	}
	w.slide(now)
	ok := w.last(now) < most
	if ok {
		w.count++
	}
	t.recent[source] = w
	return ok
}

// turn forgets the sources that have not been seen since the last turn.
func (t *rateTable) turn(now time.Duration) {
	t.former, t.recent = t.recent, make(map[[16]byte]window)
	if now-t.turned >= 4*deploy.RatePeriod {
		// Nobody has come for so long that nothing counts any more.
		t.former = nil
	}
	t.turned = now
}

func (w *window) slide(now time.Duration) {
	switch since := now - w.began; {
	case since >= 2*deploy.RatePeriod || w.count+w.before == 0:
		*w = window{began: now}
	case since >= deploy.RatePeriod:
		*w = window{began: w.began + deploy.RatePeriod, before: w.count}
	}
}

// last is how many there were in the last period: all of this one, and of the one before the share that still belongs to it.
func (w *window) last(now time.Duration) int {
	left := (w.began + deploy.RatePeriod - now).Milliseconds()
	return int(w.count) + int(int64(w.before)*left/deploy.RatePeriod.Milliseconds())
}

// sourceOf is the address or network that counts as one source. No IPv6 address is written as an IPv4 one is here.
func sourceOf(ip netip.Addr) [16]byte {
	source := ip.As16()
	if ip.Is6() {
		clear(source[sourceBits/8:])
	}
	return source
}
