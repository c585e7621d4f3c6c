package hooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/settings"
)

// admit tells what speaks against the claims of an app, all of it at once: another app that holds an address, the policy,
// a port that Dokku's own proxies or any other process of the host listen on. nil means that they may come into force.
// The caller holds the lock, and keeps it until the claims are written down.
func (h *Host) admit(ctx context.Context, app string, claims []deploy.Claim) error {
	if len(claims) == 0 {
		return nil
	}
	values, err := h.settings.Effective(app)
	if err != nil {
		return err
	}
	apps, err := h.Apps(ctx)
	if err != nil {
		return err
	}
	var found objections
	taken := deploy.Taken(apps, app)
	var conflicts []*deploy.Conflict
	for _, c := range claims {
		if conflict := taken.Conflict(c); conflict != nil {
			conflicts = append(conflicts, conflict)
		}
	}
	for _, conflict := range deploy.ByHolder(conflicts) {
		found.add(conflict, conflict.Wants()...)
	}
	for _, refusal := range values.Policy.Check(app, claims) {
		found.add(refusal, refusal.Claims...)
	}
	h.admitProxies(values, claims, found.about)
	if err := h.admitUnreadable(ctx, app, apps, claims, found.note); err != nil {
		return err
	}
	if err := h.admitHost(ctx, claims, found.about); err != nil {
		return err
	}
	return found.inOrder()
}

// admitPage tells which apps' ports the statistics page would take where it is to listen: at its next start an engine would open
// one of the two only.
func (h *Host) admitPage(ctx context.Context, listen string) error {
	values := settings.Defaults()
	if listen != "" {
		addr, err := netip.ParseAddrPort(listen)
		if err != nil {
			return nil // The setting itself says so.
		}
		values.StatsListen = addr
	}
	apps, err := h.Apps(ctx)
	if err != nil {
		return err
	}
	page := deploy.Listen{IP: values.StatsListen.Addr(), Port: values.StatsListen.Port()}
	conflict := deploy.Taken(apps, "").Conflict(deploy.Claim{Listen: page})
	if conflict == nil {
		return nil
	}
	held := conflict.Held
	return fmt.Errorf("the statistics page can't listen on %s: public port %s belongs to the app %s (%s); choose another port",
		values.StatsListen, held.Listen, held.App, held.Where())
}

// objections are what speaks against claims.
type objections struct {
	list []objection
	told map[deploy.Listen]bool
}

type objection struct {
	first deploy.Listen
	err   error
}

// note adds what speaks against a claim, unless something does already.
func (o *objections) note(c deploy.Claim, err error) {
	if !o.told[c.Listen] {
		o.add(err, c)
	}
}

// about adds what speaks against a claim, for a reason that does not name it.
func (o *objections) about(c deploy.Claim, reason error) {
	o.note(c, fmt.Errorf("public port %s (%s): %w", c.Listen, c.Where(), reason))
}

// add adds what speaks against one or more claims.
func (o *objections) add(err error, claims ...deploy.Claim) {
	if o.told == nil {
		o.told = make(map[deploy.Listen]bool)
	}
	o.list = append(o.list, objection{claims[0].Listen, err})
	for _, c := range claims {
		o.told[c.Listen] = true
	}
}

// inOrder joins them in the order of their addresses.
func (o *objections) inOrder() error {
	slices.SortStableFunc(o.list, func(x, y objection) int { return x.first.Compare(y.first) })
	errs := make([]error, 0, len(o.list))
	for _, objection := range o.list {
		errs = append(errs, objection.err)
	}
	return errors.Join(errs...)
}

// admitProxies looks for ports that Dokku's own proxies (nginx and the like) map for any app. These proxies don't look
// who has a port: one that they can't bind fails the reload of all apps' HTTP. What can't be read of other apps is told, but
// stops no deploy of this one.
func (h *Host) admitProxies(values settings.Values, claims []deploy.Claim, note func(deploy.Claim, error)) {
	mapped, err := h.env.ProxyPorts()
	if err != nil {
		h.out.Warn("%v", err)
	}
	byPort := make(map[uint16]int)
	for i, m := range mapped {
		byPort[m.Host] = i + 1
	}
	for _, c := range claims {
		i := byPort[c.Listen.Port]
		if i == 0 || values.Policy.Excepts(c.Listen.Port) {
			continue
		}
		note(c, proxyConflict(c, mapped[i-1]))
	}
}

// admitProxyOf looks for public ports of other apps that Dokku's proxy would listen on for this one. It is asked for every
// app, also for those without public ports: nginx can't bind such a port, and then takes no change for any app any more.
// What can't be read is told, but stops no deploy by itself.
func (h *Host) admitProxyOf(ctx context.Context, app string) error {
	apps, err := h.Apps(ctx)
	if err != nil {
		h.out.Warn("%v", err)
	}
	if len(apps) == 0 {
		return nil
	}
	mapped, err := h.env.ProxyPorts()
	if err != nil {
		h.out.Warn("%v", err)
	}
	taken := deploy.Taken(apps, app)
	var errs []error
	for _, p := range mapped {
		if p.App != app {
			continue
		}
		conflict := taken.Conflict(deploy.Claim{App: app, Listen: deploy.Listen{Port: p.Host}})
		if conflict == nil {
			continue
		}
		held := conflict.Held
		values, err := h.settings.Effective(held.App)
		if err != nil {
			h.out.Warn("%v", err)
		}
		if !values.Policy.Excepts(p.Host) {
			errs = append(errs, fmt.Errorf("a proxy of Dokku would listen on port %d for the app %s (%s), but the app %s has it (%s, public port %s); "+
				"%s", p.Host, app, mappedBy(p), held.App, held.Where(), held.Listen, otherPort(app)))
		}
	}
	return errors.Join(errs...)
}

// proxyConflict says that a proxy of Dokku's wants a port, and how to have it want another one.
func proxyConflict(c deploy.Claim, p dokku.ProxyPort) error {
	return fmt.Errorf("a proxy of Dokku listens on port %d for the app %s (%s), or will; %s", p.Host, p.App, mappedBy(p), otherPort(p.App))
}

// otherPort is how to keep Dokku's proxies off a port.
func otherPort(app string) string {
	return fmt.Sprintf("give the HTTP of %s another port (dokku ports:set %s http:80:5000), or none (dokku proxy:disable %s && dokku nginx:reload)", app, app, app)
}

// mappedBy names a proxy's mapping, and who asked for it.
func mappedBy(p dokku.ProxyPort) string {
	if p.Detected {
		return fmt.Sprintf("%s, detected from EXPOSE", p)
	}
	return fmt.Sprintf("%s, set with ports:set", p)
}

// admitHost looks for containers that publish a port and for any other process that listens on it. What the engine
// itself listens on is left out: whose that is, the claims tell.
func (h *Host) admitHost(ctx context.Context, claims []deploy.Claim, note func(deploy.Claim, error)) error {
	client, err := h.docker()
	if err != nil {
		return err
	}
	published, err := client.PublishedPorts(ctx)
	if err != nil {
		return err
	}
	engine, serving, err := h.serving(ctx)
	if err != nil {
		return err
	}
	sockets, err := listeners.List()
	if err != nil {
		return err
	}
	sockets = slices.DeleteFunc(sockets, func(s listeners.Listener) bool {
		for listen := range serving {
			if s.Is(listen) {
				return true
			}
		}
		return false
	})
	for _, c := range claims {
		if err := engine.Refuses(c.Listen); err != nil {
			note(c, err)
		}
		if !ownAddress(ctx, c.Listen.IP) {
			note(c, fmt.Errorf("this host has no address %s; use one that it has (ip address), or none", c.Listen.IP))
		}
		for _, p := range published {
			if p.Listen.Overlaps(c.Listen) {
				note(c, h.publishedBy(c, p))
			}
		}
		if _, served := serving[c.Listen]; served {
			continue
		}
		free := true
		for _, s := range sockets {
			if s.Conflicts(c.Listen) {
				free = false
				note(c, listeners.Taken(s))
			}
		}
		// The engine's own socket would look like somebody else's.
		for listen := range serving {
			free = free && !listen.Overlaps(c.Listen)
		}
		if free && errors.Is(listeners.TryBind(c.Listen), listeners.ErrInUse) {
			note(c, cmp.Or(listeners.Occupied(c.Listen), listeners.ErrInUse))
		}
	}
	return nil
}

// warnUnreserved tells of public ports that the kernel may give to an outgoing connection of this host while nobody listens on them, as
// after a boot. Such a port works until that happens, so nothing is refused, and expose:check tells only when it has happened.
func (h *Host) warnUnreserved(claims []deploy.Claim) {
	var ports []uint16
	for _, c := range claims {
		ports = append(ports, c.Listen.Port)
	}
	which, remedy, err := listeners.Unreserved(ports)
	switch {
	case err != nil:
		h.out.Warn("%v", err)
	case which != "":
		h.out.Warn("The kernel gives the ports %s to outgoing connections too (net.ipv4.ip_local_port_range): after a boot one of these may have a public port before it is opened. Reserve them: %s", which, remedy)
	}
}

// ownAddress tells whether this host can bind an address, whatever the port.
func ownAddress(ctx context.Context, ip netip.Addr) bool {
	if !ip.IsValid() {
		return true
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", netip.AddrPortFrom(ip, 0).String())
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
