package proxy

import (
	"net/netip"
	"slices"

	"dokku-expose/deploy"
)

// admission is the limit of a route's clients.
type admission struct {
	// proxies are the proxies whose header names the client.
	proxies []netip.Prefix
	// everybody may connect, or only clients of the networks in allow.
	everybody bool
	allow     []netip.Prefix
	// rate is how many times a source may connect in [deploy.RatePeriod], 0 for no limit.
	rate  int
	rates *rateTable
}

// newAdmission is the admission of options, nil when they need no client's address. It goes on with the rates of the former one.
func newAdmission(o deploy.Options, former *admission) *admission {
	if o.Allow.IsZero() && o.AcceptProxy.IsZero() && o.Rate == 0 && !asksForAddress(o) {
		return nil
	}
	a := &admission{proxies: o.AcceptProxy.Prefixes(), everybody: o.Allow.IsZero(), allow: o.Allow.Prefixes(), rate: o.Rate}
	switch {
	case o.Rate == 0:
	case former != nil && former.rates != nil:
		a.rates = former.rates
	default:
		a.rates = newRateTable()
	}
	return a
}

// asksForAddress tells that the options need the address of a client that is let in.
func asksForAddress(o deploy.Options) bool {
	return o.Balance == deploy.BySource || o.ProxyProtocol != ""
}

// admits tells whether a client from there is let in now.
func (a *admission) admits(source netip.Addr) bool { return a.allows(source) && a.counts(source) }

func (a *admission) allows(source netip.Addr) bool { return a.everybody || contain(a.allow, source) }

// counts counts the client, and tells whether there are not too many from there.
func (a *admission) counts(source netip.Addr) bool {
	return a.rates == nil || a.rates.take(source, a.rate)
}

func contain(networks []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(ip) })
}
