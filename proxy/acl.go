package proxy

import (
	"net/netip"
	"slices"

	"dokku-expose/deploy"
)

// admission says whose connections a route serves.
type admission struct {
	// proxies are those whose header tells who connects.
	proxies []netip.Prefix
	// everybody may connect, or only those of the networks.
	everybody bool
	allow     []netip.Prefix
	// rate is how many times a source may do so, 0 for as often as it likes.
	rate  int
	rates *rateTable
}

// newAdmission makes what options ask for, nil when they don't care where connections come from. It goes on with what the former
// one knows.
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

// asksForAddress tells whether the options need a client's address to serve it.
func asksForAddress(o deploy.Options) bool {
	return o.Balance == deploy.BySource || o.ProxyProtocol != ""
}

// admits tells whether a client from there is let in now.
func (a *admission) admits(source netip.Addr) bool {
	return (a.everybody || contain(a.allow, source)) && (a.rates == nil || a.rates.take(source, a.rate))
}

func contain(networks []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(ip) })
}
