package deploy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dokku-expose/portsfile"
)

// MaxNetworks is how many networks one option may name.
const MaxNetworks = 50

// noNetworks is how the set without any network is written.
const noNetworks = "none"

// Networks is a set of networks, as an option names it. The zero value says nothing; the set that [NetworksOf] makes of no
// network says that there is none. Two of them are equal (==) if and only if they are written the same.
//
// An IPv4 network holds IPv4 addresses and nothing else, an IPv6 network IPv6 addresses and nothing else: ::/0 is not
// everybody.
type Networks struct {
	// text is the canonical form.
	text string
}

// ParseNetworks reads networks and single addresses that stand between commas, at most [MaxNetworks] of them, or "none". The
// error says what was expected.
func ParseNetworks(text string) (Networks, error) {
	if n := strings.Count(text, ",") + 1; n > MaxNetworks {
		return Networks{}, fmt.Errorf("expected at most %d networks, not %d", MaxNetworks, n)
	}
	return parseNetworks(text)
}

func parseNetworks(text string) (Networks, error) {
	if text == noNetworks {
		return NetworksOf(), nil
	}
	var prefixes []netip.Prefix
	err := portsfile.Items(text, func(item string) error {
		prefix, err := parseNetwork(item)
		prefixes = append(prefixes, prefix)
		return err
	})
	if err != nil {
		return Networks{}, err
	}
	return NetworksOf(prefixes...), nil
}

// NetworksOf is the set of some networks, none of which has bits beyond its length or is an IPv4 network in IPv6 form.
func NetworksOf(prefixes ...netip.Prefix) Networks {
	if len(prefixes) == 0 {
		return Networks{noNetworks}
	}
	prefixes = slices.Clone(prefixes)
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var items []string
	for _, p := range slices.Compact(prefixes) {
		items = append(items, networkName(p))
	}
	return Networks{strings.Join(items, ",")}
}

// networkName writes a network of one address without its length.
func networkName(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func parseNetwork(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		// Without a length it is a single address.
		var ip netip.Addr
		if ip, err = netip.ParseAddr(text); err == nil && ip.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("address %s has a zone: expected one without, as %s", portsfile.Quote(text), ip.WithZone(""))
		}
		prefix = netip.PrefixFrom(ip, ip.BitLen())
	}
	const ipv4InIPv6 = 96
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%s is not a network: expected networks or addresses such as 10.0.0.0/8,192.0.2.1,2001:db8::/32, or %s",
			portsfile.Quote(text), noNetworks)
	case prefix.Addr().Is4In6() && prefix.Bits() >= ipv4InIPv6:
		four := netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-ipv4InIPv6)
		return netip.Prefix{}, fmt.Errorf("%s is an IPv4 network in IPv6 form: expected %s", portsfile.Quote(text), NetworksOf(four.Masked()))
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has bits beyond its length: expected %s", portsfile.Quote(text), prefix.Masked())
	}
	return prefix, nil
}

// IsZero tells whether nothing is said. To say that there is no network is to say something.
func (n Networks) IsZero() bool { return n.text == "" }

// String returns the canonical form: sorted, IPv4 first, no network twice, single addresses without a length. The zero value's is
// empty.
func (n Networks) String() string { return n.text }

// Prefixes returns the networks in the order of the canonical form.
func (n Networks) Prefixes() []netip.Prefix {
	if n.text == "" || n.text == noNetworks {
		return nil
	}
	var prefixes []netip.Prefix
	for item := range strings.SplitSeq(n.text, ",") {
		prefix, err := parseNetwork(item)
		if err != nil {
			panic("deploy: networks were not made by this package: " + err.Error())
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes
}

// MarshalText returns the canonical form.
func (n Networks) MarshalText() ([]byte, error) { return []byte(n.text), nil }

// UnmarshalText reads what MarshalText returned, which may be more networks than [MaxNetworks]: those that two options have in
// common.
func (n *Networks) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*n = Networks{}
		return nil
	}
	parsed, err := parseNetworks(string(text))
	if err == nil && parsed.text != string(text) {
		err = errors.New("networks are not in canonical form")
	}
	if err == nil {
		*n = parsed
	}
	return err
}
