package haproxy

import (
	"errors"
	"fmt"
	"net/netip"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
)

// A bind that fails closes all listeners of HAProxy for up to two seconds, and `haproxy -c` does not see it coming: so what
// HAProxy is to bind is looked at before.

// bindable returns those routes that HAProxy listens for already or can, and an error for each other one.
func (e *Engine) bindable(routes []deploy.Route, live *snapshot) (good []deploy.Route, refused []*deploy.RouteError, err error) {
	own := ownListens(live)
	// fresh are the routes that do not run, with what is known against each.
	fresh := make(map[deploy.Key]error)
	for _, r := range routes {
		// A proxy's name does not say the protocol: that of TCP runs, maybe.
		if _, ok := live.proxies[proxyName(r.App, r.Key)]; !ok || r.Key.Proto != deploy.TCP {
			fresh[r.Key] = e.probe(r, own)
		}
	}
	if len(fresh) == 0 {
		return routes, nil, nil
	}
	sockets, err := e.listeners()
	if err != nil {
		return nil, nil, fmt.Errorf("sockets of this host: %w", err)
	}
	for _, r := range routes {
		reason, isFresh := fresh[r.Key]
		if isFresh {
			reason = holder(r.Key.Frontend(), sockets, own, reason)
		}
		if reason != nil {
			refused = append(refused, &deploy.RouteError{App: r.App, Key: r.Key, Err: reason})
			continue
		}
		good = append(good, r)
	}
	return good, refused, nil
}

// ownListens are the addresses that the running HAProxy listens on.
func ownListens(live *snapshot) []deploy.Frontend {
	var own []deploy.Frontend
	for name := range live.proxies {
		if _, k, ok := parseName(name); ok {
			own = append(own, k.Frontend())
		}
	}
	if addr, err := netip.ParseAddrPort(live.stats); err == nil {
		own = append(own, deploy.FrontendAt(addr))
	}
	return own
}

// probe finds out what can be found without asking who listens: nil when its address is free as far as it goes.
func (e *Engine) probe(r deploy.Route, own []deploy.Frontend) error {
	if err := e.Supports(r); err != nil {
		return err
	}
	for _, o := range own {
		if r.Key.Frontend().Overlaps(o) {
			return nil // HAProxy's own socket would look like somebody else's.
		}
	}
	return listeners.TryBind(r.Key.Frontend())
}

// holder makes an error of what holds l, if anything does.
func holder(l deploy.Frontend, sockets []listeners.Listener, own []deploy.Frontend, probed error) error {
	if probed != nil && !errors.Is(probed, listeners.ErrInUse) {
		return probed
	}
	if taken := listeners.TakenBy(l, sockets, own); taken != nil || probed == nil {
		return taken
	}
	// It may be free by now.
	if listeners.TryBind(l) == nil {
		return nil
	}
	return listeners.InUse(l)
}

// listeners are the listening sockets of the host.
func (e *Engine) listeners() ([]listeners.Listener, error) {
	if e.cfg.Listeners != nil {
		return e.cfg.Listeners()
	}
	return listeners.List()
}

// statsFree tells whether the statistics page can listen. It is left out when it can't: a page is not worth a port of an app.
func (e *Engine) statsFree(live *snapshot) (bool, error) {
	if !e.cfg.StatsListen.IsValid() {
		return false, nil
	}
	if live.stats == e.cfg.StatsListen.String() {
		return true, nil
	}
	sockets, err := e.listeners()
	if err != nil {
		return false, fmt.Errorf("sockets of this host: %w", err)
	}
	own, l := ownListens(live), deploy.FrontendAt(e.cfg.StatsListen)
	return holder(l, sockets, own, listeners.TryBind(l)) == nil, nil
}

// bind is the address of a listener in HAProxy's words. Every address is one socket for each family: clients of IPv4 would have
// addresses of IPv6 on one for both, which is not what apps expect in a PROXY header. On a host without IPv6 its socket would
// fail the start of all listeners.
func bind(l deploy.Frontend, ipv6 bool) string {
	switch {
	case l.IP.IsValid() && l.IP == netip.IPv6Unspecified():
		return fmt.Sprintf("[::]:%d v6only", l.Port)
	case l.IP.IsValid():
		return netip.AddrPortFrom(l.IP, l.Port).String()
	case ipv6:
		return fmt.Sprintf("0.0.0.0:%d,[::]:%d v6only", l.Port, l.Port)
	}
	return fmt.Sprintf("0.0.0.0:%d", l.Port)
}
