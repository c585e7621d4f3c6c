package portsfile

import "net/netip"

// claims knows which public addresses of a file are mapped, so that each new one is compared with all others in a few map
// lookups, however many addresses share a port and however they cover each other. The zero Addr stands for every address.
type claims[O Options] struct {
	// bound holds the addresses as they are bound, within each address of which at least a part is bound: those in bound
	// and what covers them. The values are the entries that were the first.
	bound, within map[claim]*Entry[O]
}

type claim struct {
	ip   netip.Addr
	port uint16
}

func newClaims[O Options]() claims[O] {
	return claims[O]{bound: map[claim]*Entry[O]{}, within: map[claim]*Entry[O]{}}
}

// add claims e's public ports. When other entries have some of them it returns the lowest such port and the first entry
// that has it, else nil. What is taken is claimed nevertheless, since either of the two may be the mistaken one.
func (c claims[O]) add(e Entry[O]) (taken uint16, by *Entry[O]) {
	covers := covering(e.Bind)
	for public := range e.Ports() {
		first := c.within[claim{e.Bind, public}]
		for _, ip := range covers {
			if other := c.bound[claim{ip, public}]; other != nil && (first == nil || other.Line < first.Line) {
				first = other
			}
		}
		if by == nil && first != nil {
			taken, by = public, first
		}
		put(c.bound, claim{e.Bind, public}, &e)
		for _, ip := range covers {
			put(c.within, claim{ip, public}, &e)
		}
	}
	return taken, by
}

func put[O Options](entries map[claim]*Entry[O], at claim, e *Entry[O]) {
	if entries[at] == nil {
		entries[at] = e
	}
}

// covering returns ip and the wildcards that bind it too.
func covering(ip netip.Addr) []netip.Addr {
	switch {
	case !ip.IsValid():
		return []netip.Addr{ip}
	case ip.IsUnspecified():
		return []netip.Addr{ip, {}}
	case ip.Is4():
		return []netip.Addr{ip, netip.IPv4Unspecified(), {}}
	default:
		return []netip.Addr{ip, netip.IPv6Unspecified(), {}}
	}
}
