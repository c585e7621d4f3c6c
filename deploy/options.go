package deploy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dokku-expose/portsfile"
)

// options are those of the claim's route: what the claim says, else what an operator has set for all routes of the app. A
// claim of a PORTS file comes with a push, which can make what an operator has set stricter, but never looser. What is the
// default anyway is not said in what is returned, so that engines need know one way only to ask for it.
func (c Claim) options(set portsfile.Options) portsfile.Options {
	o := c.Options
	if c.pushed() {
		o.Allow = both(set.Allow, o.Allow)
		o.MaxConnections = stricter(set.MaxConnections, o.MaxConnections)
		o.Rate = stricter(set.Rate, o.Rate)
		o.IdleTimeout = stricter(set.IdleTimeout, o.IdleTimeout)
		if decidesBySource(set) {
			o.AcceptProxy = set.AcceptProxy
		} else {
			o.AcceptProxy = both(set.AcceptProxy, o.AcceptProxy)
		}
	}
	o = portsfile.Options{
		Allow:          cmp.Or(o.Allow, set.Allow),
		ProxyProtocol:  cmp.Or(o.ProxyProtocol, set.ProxyProtocol),
		AcceptProxy:    cmp.Or(o.AcceptProxy, set.AcceptProxy),
		MaxConnections: cmp.Or(o.MaxConnections, set.MaxConnections),
		Rate:           cmp.Or(o.Rate, set.Rate),
		IdleTimeout:    cmp.Or(o.IdleTimeout, set.IdleTimeout),
		Balance:        cmp.Or(o.Balance, set.Balance),
		Check:          cmp.Or(o.Check, set.Check),
	}
	if o.ProxyProtocol == portsfile.NoProxyHeader {
		o.ProxyProtocol = ""
	}
	if o.AcceptProxy == portsfile.NetworksOf() {
		o.AcceptProxy = portsfile.Networks{}
	}
	if o.Balance == portsfile.LeastConn {
		o.Balance = ""
	}
	if o.Check == portsfile.ConnectCheck {
		o.Check = ""
	}
	return o
}

// Unchecked tells whether nothing may connect to the claim's private port but a client: the claim says so, else what an operator has
// set for all routes of the app.
func (c Claim) Unchecked(set portsfile.Options) bool {
	return c.options(set).Check == portsfile.NoCheck
}

// decidesBySource tells whether an operator lets addresses decide. A push must not say then whose word about addresses is
// taken, neither more nor less: with more proxies anybody could be believed, and behind one that is none any more all clients
// have the proxy's own address, which is likely to be allowed.
func decidesBySource(set portsfile.Options) bool {
	return !set.Allow.IsZero() || set.Rate > 0
}

// stricter is the smaller of two limits, of which 0 is none.
func stricter[T int | time.Duration](a, b T) T {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// both are the networks that are in a and in b, where each of them says anything.
func both(a, b portsfile.Networks) portsfile.Networks {
	if a.IsZero() || b.IsZero() {
		return cmp.Or(a, b)
	}
	var common []netip.Prefix
	for _, x := range a.Prefixes() {
		for _, y := range b.Prefixes() {
			// Of two networks that overlap, one is in the other.
			if x.Overlaps(y) && x.Bits() >= y.Bits() {
				common = append(common, x)
			} else if x.Overlaps(y) {
				common = append(common, y)
			}
		}
	}
	return portsfile.NetworksOf(common...)
}

// void says why what a push asks for can't be had beside what an operator has set; "" where it can, or something of it. rule is
// the setting.
func (c Claim) void(set portsfile.Options) (rule, reason string) {
	none := portsfile.NetworksOf()
	asks := func(asked portsfile.Networks) bool { return c.pushed() && len(asked.Prefixes()) > 0 }
	apart := func(set, asked portsfile.Networks) bool {
		return asks(asked) && !set.IsZero() && set != none && both(set, asked) == none
	}
	allow, proxies := portsfile.Options{Allow: c.Options.Allow}, portsfile.Options{AcceptProxy: c.Options.AcceptProxy}
	switch {
	case apart(set.Allow, c.Options.Allow):
		return "allow", fmt.Sprintf("nobody can connect: %s has no address in common with the setting allow, which is %s", allow, set.Allow)
	case c.pushed() && decidesBySource(set) && !set.AcceptProxy.IsZero() && !c.Options.AcceptProxy.IsZero() && c.Options.AcceptProxy != set.AcceptProxy:
		return "accept-proxy", fmt.Sprintf("%s does not go where an operator has set allow or rate and names the proxies himself, which are %s", proxies, set.AcceptProxy)
	case apart(set.AcceptProxy, c.Options.AcceptProxy):
		return "accept-proxy", fmt.Sprintf("no header is read: %s has no address in common with the setting accept-proxy, which is %s", proxies, set.AcceptProxy)
	case asks(c.Options.AcceptProxy) && set.AcceptProxy.IsZero() && decidesBySource(set):
		return "accept-proxy", fmt.Sprintf("no header is read: %s does not go where an operator has set allow or rate and names no proxies himself", proxies)
	}
	return "", ""
}

// voidRemedy says what to do about claims that are void by a rule.
func voidRemedy(app, rule string, set portsfile.Options, claims []Claim) string {
	command := func(networks ...portsfile.Networks) string {
		var all []netip.Prefix
		for _, n := range networks {
			all = append(all, n.Prefixes()...)
		}
		return fmt.Sprintf("dokku expose:set %s %s %s", app, rule, portsfile.NetworksOf(all...))
	}
	var asked []portsfile.Networks
	for _, c := range claims {
		if rule == "allow" {
			asked = append(asked, c.Options.Allow)
		} else if !slices.Contains(asked, c.Options.AcceptProxy) {
			asked = append(asked, c.Options.AcceptProxy)
		}
	}
	switch {
	case rule == "allow":
		return "change one of the two: " + command(append(asked, set.Allow)...)
	case !decidesBySource(set):
		return "change one of the two: " + command(append(asked, set.AcceptProxy)...)
	case len(asked) == 1:
		return "leave it out, or have an operator name the same: " + command(asked...)
	}
	// There is one setting, and what differs from it does not go.
	return "leave it out, and have an operator name them: " + command(asked...)
}
