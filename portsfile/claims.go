package portsfile

import "net/netip"

// claims knows which public addresses of a file are mapped, so that each new one is compared with all others in a few map
// lookups, however many addresses share a port and however they cover each other. The zero Addr stands for every address.
type claims[O Options[O]] struct {
	// bound holds the addresses as they are bound, within each address of which a part is bound, named the parts of an address. The
	// values are the entries that were the first.
	bound, within map[claim]*Entry[O]
	named         map[part]*Entry[O]
}

type claim struct {
	proto Proto
	ip    netip.Addr
	port  uint16
}

// part is those clients of an address that ask for a name.
type part struct {
	claim
	name string
}

func newClaims[O Options[O]]() claims[O] {
	return claims[O]{bound: map[claim]*Entry[O]{}, within: map[claim]*Entry[O]{}, named: map[part]*Entry[O]{}}
}

// add claims e's public ports. When other entries have some of them it returns the lowest such port, the first entry that has it, and why
// the two can't share it, if that is not a matter of addresses or names. What is taken is claimed nevertheless, since either of the two
// may be the mistaken one.
func (c claims[O]) add(e Entry[O]) (taken uint16, by *Entry[O], why error) {
	wider := covering(e.Bind)
	for public := range e.Ports() {
		at := claim{e.Proto, e.Bind, public}
		first := c.within[at]
		for _, ip := range wider {
			first = earlier(first, c.bound[claim{e.Proto, ip, public}])
		}
		var unshared error
		if same := c.bound[at]; same != nil {
			if unshared = e.Options.Beside(same.Options); unshared != nil {
				first = earlier(first, same)
			}
		}
		for _, name := range e.Names() {
			first = earlier(first, c.named[part{at, name}])
			put(c.named, part{at, name}, &e)
		}
		if by == nil && first != nil {
			taken, by, why = public, first, unshared
		}
		put(c.bound, at, &e)
		for _, ip := range wider {
			put(c.within, claim{e.Proto, ip, public}, &e)
		}
	}
	return taken, by, why
}

// earlier is the entry that was read first; nil stands for none.
func earlier[O Options[O]](a, b *Entry[O]) *Entry[O] {
	if a == nil || b != nil && b.Line < a.Line {
		return b
	}
	return a
}

func put[K comparable, O Options[O]](entries map[K]*Entry[O], at K, e *Entry[O]) {
	if entries[at] == nil {
		entries[at] = e
	}
}

// covering returns the wildcards that bind ip too.
func covering(ip netip.Addr) []netip.Addr {
	switch {
	case !ip.IsValid():
		return nil
	case ip.IsUnspecified():
		return []netip.Addr{{}}
	case ip.Is4():
		return []netip.Addr{netip.IPv4Unspecified(), {}}
	default:
		return []netip.Addr{netip.IPv6Unspecified(), {}}
	}
}
