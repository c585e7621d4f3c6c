package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/settings"
	"dokku-expose/portsfile"
)

// Admit tells what speaks against the claims of an app, all of it at once: another app that holds an address, the policy,
// a port that Dokku's own proxies or any other process of the host listen on. nil means that they may come into force.
// The caller holds the lock, and keeps it until the claims are written down.
func (h *Host) Admit(ctx context.Context, app string, claims []deploy.Claim) error {
	if len(claims) == 0 {
		return nil
	}
	w, err := h.Wire()
	if err != nil {
		return err
	}
	values, _, err := w.settings.App(app)
	if err != nil {
		return err
	}
	apps, err := w.Apps(ctx)
	if err != nil {
		return err
	}
	engine, serving, err := w.Serving(ctx)
	if err != nil {
		return err
	}
	r := deploy.Request{App: app, Claims: claims, Policy: values.Policy, Apps: apps, Serving: serving, Unreadable: make(map[string]deploy.MayClaim)}
	if slices.ContainsFunc(claims, func(c deploy.Claim) bool { return c.Key.ServerName != "" }) {
		if r.Domains, err = h.Env.Domains(); err != nil {
			return err
		}
	}
	for _, a := range apps {
		if a.Err != nil && a.Name != app {
			r.Unreadable[a.Name] = h.mayClaim(a)
		}
	}
	elsewhere, err := h.elsewhere(app)
	switch {
	case err != nil:
		return err
	case elsewhere:
		w.lookAtCluster(ctx, &r)
		return deploy.Admit(r)
	}
	r.Occupied = h.proxies(values.Policy)
	if err := w.LookAround(ctx, engine, &r); err != nil {
		return err
	}
	return deploy.Admit(r)
}

// mayClaim is what an app may ask for by those of its files that can't be read.
func (h *Host) mayClaim(a deploy.App) deploy.MayClaim {
	set, setKnown := h.Settings.MayMap(a.Name)
	remembered, rememberedKnown := h.State.MayClaim(a.Name)
	ports := append(set, remembered...)
	// A PORTS that this version of the plugin can't parse.
	state, _ := h.State.Load(a.Name)
	texts := []string{state.Images[state.Current].Text}
	if state.Deploy != nil && state.Deploy.Pending != nil {
		texts = append(texts, state.Deploy.Pending.Text)
	}
	for _, text := range texts {
		if _, err := deploy.ParsePorts("", text); err != nil {
			ports = append(ports, portsfile.Mentioned(text)...)
		}
	}
	return deploy.MayClaim{Ports: ports, Known: setKnown && rememberedKnown, Err: a.Err}
}

// AdmitPage tells which apps' ports the statistics page would take where it is to listen: at its next start an engine would open
// one of the two only.
func (h *Host) AdmitPage(ctx context.Context, listen string) error {
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
	conflict := deploy.Taken(apps, "").Conflict(deploy.Claim{Key: deploy.KeyAt(values.StatsListen)})
	if conflict == nil {
		return nil
	}
	held := conflict.Held
	return fmt.Errorf("the statistics page can't listen on %s: public port %s belongs to the app %s (%s); choose another port",
		values.StatsListen, held.Key, held.App, held.Where())
}

// proxies are the ports that Dokku's own proxies (nginx and the like) map for any app. These proxies don't look who has a port: one that
// they can't bind fails the reload of all apps' HTTP. What can't be read of other apps is told, but stops no deploy of this one.
func (h *Host) proxies(policy deploy.Policy) (occupied []deploy.Occupied) {
	mapped, err := h.Env.ProxyPorts()
	if err != nil {
		h.Out.Warn("%v", err)
	}
	for _, m := range mapped {
		if !policy.Excepts(m.Host) {
			occupied = append(occupied, deploy.Occupied{
				Conflicts: func(f deploy.Frontend) bool { return f.Proto == deploy.TCP && f.Port == m.Host },
				Reason:    func(deploy.Claim) error { return ProxyConflict(m) },
			})
		}
	}
	return occupied
}

// AdmitProxyOf looks for public ports of other apps that Dokku's proxy would listen on for this one. It is asked for every
// app, also for those without public ports: nginx can't bind such a port, and then takes no change for any app any more.
// What can't be read is told, but stops no deploy by itself.
func (h *Host) AdmitProxyOf(ctx context.Context, app string) error {
	apps, err := h.Apps(ctx)
	if err != nil {
		h.Out.Warn("%v", err)
	}
	if len(apps) == 0 {
		return nil
	}
	mapped, err := h.Env.ProxyPorts()
	if err != nil {
		h.Out.Warn("%v", err)
	}
	taken := deploy.Taken(apps, app)
	var errs []error
	for _, p := range mapped {
		if p.App != app {
			continue
		}
		conflict := taken.Conflict(deploy.Claim{App: app, Key: deploy.Key{Port: p.Host}})
		if conflict == nil {
			continue
		}
		held := conflict.Held
		values, err := h.Settings.Effective(held.App)
		if err != nil {
			h.Out.Warn("%v", err)
		}
		if !values.Policy.Excepts(p.Host) {
			errs = append(errs, fmt.Errorf("a proxy of Dokku would listen on port %d for the app %s (%s), but the app %s has it (%s, public port %s); "+
				"%s", p.Host, app, mappedBy(p), held.App, held.Where(), held.Key, otherPort(app)))
		}
	}
	return errors.Join(errs...)
}

// ProxyConflict says that a proxy of Dokku's wants a port, and how to have it want another one.
func ProxyConflict(p dokku.ProxyPort) error {
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

// LookAround adds to a request what of its addresses containers publish, what a cluster takes, and what other processes of the host listen
// on. The engine's own sockets are left out: whose these are, the claims tell.
func (w Wiring) LookAround(ctx context.Context, engine deploy.Engine, r *deploy.Request) error {
	client, err := w.host.Docker()
	if err != nil {
		return err
	}
	published, err := client.PublishedPorts(ctx)
	if err != nil {
		return err
	}
	for _, p := range published {
		r.Occupied = append(r.Occupied, deploy.Occupied{
			Conflicts: p.Listen.Overlaps,
			Reason:    func(c deploy.Claim) error { return w.host.publishedBy(c, p) },
		})
	}
	w.lookAtCluster(ctx, r)
	sockets, err := listeners.List()
	if err != nil {
		return err
	}
	served := make([]deploy.Frontend, 0, len(r.Serving))
	for key := range r.Serving {
		served = append(served, key.Frontend())
	}
	for _, s := range sockets {
		if own := slices.ContainsFunc(served, s.Is); !own {
			r.Occupied = append(r.Occupied, deploy.Occupied{
				Listens: true, Conflicts: s.Conflicts, Reason: func(deploy.Claim) error { return listeners.Taken(s) },
			})
		}
	}
	r.Impossible = make(map[deploy.Key]error)
	for _, c := range r.Claims {
		switch err := engine.Supports(deploy.Route{App: c.App, Process: c.Process, Key: c.Key, Options: c.Options}); {
		case err != nil:
			r.Impossible[c.Key] = err
		case listeners.TryBind(deploy.Frontend{IP: c.Key.IP}) != nil:
			r.Impossible[c.Key] = fmt.Errorf("this host has no address %s; use one that it has (ip address), or none", c.Key.IP)
		// The engine's own socket would look like somebody else's.
		case r.OnHost(c) == nil && !slices.ContainsFunc(served, c.Key.Frontend().Overlaps) && errors.Is(listeners.TryBind(c.Key.Frontend()), listeners.ErrInUse):
			r.Impossible[c.Key] = listeners.InUse(c.Key.Frontend())
		}
	}
	return nil
}

// lookAtCluster adds to a request what of its addresses a cluster takes. One that is down keeps no app from its ports.
func (w Wiring) lookAtCluster(ctx context.Context, r *deploy.Request) {
	taken, err := w.host.takenByCluster(ctx)
	if err != nil {
		w.host.Out.Warn("which public ports the cluster takes is not known: %v", err)
	}
	for _, t := range taken {
		r.Occupied = append(r.Occupied, deploy.Occupied{Conflicts: t.Frontend.Overlaps, Reason: func(deploy.Claim) error {
			return fmt.Errorf("the %s takes it on every node of the cluster, and nothing would arrive; use another port, or change that one", t.What)
		}})
	}
}

// WarnUnreserved tells of public ports that the kernel may give to an outgoing connection of this host while nobody listens on them, as
// after a boot. Such a port works until that happens, so nothing is refused, and expose:check tells only when it has happened.
func (h *Host) WarnUnreserved(claims []deploy.Claim) {
	var ports []uint16
	for _, c := range claims {
		ports = append(ports, c.Key.Port)
	}
	which, remedy, err := listeners.Unreserved(ports)
	switch {
	case err != nil:
		h.Out.Warn("%v", err)
	case which != "":
		h.Out.Warn("The kernel gives the ports %s to outgoing connections too (net.ipv4.ip_local_port_range): after a boot one of these may have a public port before it is opened. Reserve them: %s", which, remedy)
	}
}
