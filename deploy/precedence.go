package deploy

import (
	"fmt"
	"net/netip"
	"slices"
)

// options returns the options of the claim's route: the claim's own, else those that an operator has set for all routes of the app. A
// push can make a setting stricter, never looser. A default becomes the zero value, so that engines know one form of it.
func (c Claim) options(set Options) Options {
	o := c.Options
	if c.pushed() && decidesBySource(set) {
		o.AcceptProxy = Networks{}
	}
	for _, row := range registry {
		row.combine(&o, &set, c.pushed())
	}
	if o.TLS != TerminateTLS {
		o.ALPN = ""
	}
	if !o.names() {
		o.StartTLS = ""
	}
	return o.of(c.Key.Proto)
}

// Unchecked tells whether only clients may connect to the claim's private port.
func (c Claim) Unchecked(set Options) bool {
	return c.options(set).Check == NoCheck
}

// decidesBySource tells whether an operator's settings depend on clients' addresses. A push must not change then whose PROXY headers are
// believed: more proxies could claim any address, and behind one fewer all clients have the proxy's address, which is likely to
// be allowed.
func decidesBySource(set Options) bool {
	return !set.Allow.IsZero() || set.Rate > 0
}

// both are the networks that are in a and in b.
func both(a, b Networks) Networks {
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
	return NetworksOf(common...)
}

// contradicts says why a push gets nothing of what it asks for beside the settings, and which setting is to blame. Both are "" where it
// gets something of it.
func (c Claim) contradicts(set Options) (rule, reason string) {
	none := NetworksOf()
	asks := func(asked Networks) bool { return c.pushed() && len(asked.Prefixes()) > 0 }
	apart := func(set, asked Networks) bool {
		return asks(asked) && !set.IsZero() && set != none && both(set, asked) == none
	}
	allow, proxies := Options{Allow: c.Options.Allow}, Options{AcceptProxy: c.Options.AcceptProxy}
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

// contradictionRemedy says what to do about claims that contradict a setting.
func contradictionRemedy(app, rule string, set Options, claims []Claim) string {
	networks := func(o Options) Networks {
		if rule == "allow" {
			return o.Allow
		}
		return o.AcceptProxy
	}
	var asked []Networks
	for _, c := range claims {
		if n := networks(c.Options); !slices.Contains(asked, n) {
			asked = append(asked, n)
		}
	}
	command := func(networks ...Networks) string {
		var all []netip.Prefix
		for _, n := range networks {
			all = append(all, n.Prefixes()...)
		}
		return fmt.Sprintf("dokku expose:set %s %s %s", app, rule, NetworksOf(all...))
	}
	switch {
	case rule == "allow" || !decidesBySource(set):
		return "change one of the two: " + command(append(asked, networks(set))...)
	case len(asked) == 1:
		return "leave it out, or have an operator name the same: " + command(asked...)
	}
	// No push may differ from this setting.
	return "leave it out, and have an operator name them: " + command(asked...)
}
