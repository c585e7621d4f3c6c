package proxy

import (
	"hash/fnv"
	"net/netip"
	"slices"

	"dokku-expose/deploy"
)

// choose returns the server that a client gets of those that may serve now, but for some, nil when there is none. The mutex is held.
func (r *route) choose(s *session, but []*upstream) *upstream {
	var (
		best *upstream
		rank uint64
	)
	checked := r.hasChecks()
	// Beginning at another one each time, equals get equal shares.
	r.next++
	for i := range r.current {
		u := r.current[(i+r.next)%len(r.current)]
		if !u.mayServe(checked) || slices.Contains(but, u) {
			continue
		}
		switch r.spec.Options.Balance {
		case deploy.RoundRobin:
			r.next += i
			return u
		case deploy.BySource:
			if n := rankFor(s.ends.source.Addr(), u.identity()); best == nil || n > rank {
				best, rank = u, n
			}
		default:
			if best == nil || u.load() < best.load() {
				best = u
			}
		}
	}
	return best
}

// rankFor is how much a source likes a container. Each has likings of its own, in no order that others share ("rendezvous
// hashing"): a container that goes leaves its sources to all others, and one that comes takes a few of each. Another daemon comes
// to the same.
func rankFor(source netip.Addr, container string) uint64 {
	hash := fnv.New64a()
	ip := source.As16()
	_, _ = hash.Write(ip[:])
	_, _ = hash.Write([]byte(container))
	// Its last bytes say little about its first bits without this (the finalizer of MurmurHash3).
	n := hash.Sum64()
	n = (n ^ n>>33) * 0xff51afd7ed558ccd
	n = (n ^ n>>33) * 0xc4ceb9fe1a85ec53
	return n ^ n>>33
}
