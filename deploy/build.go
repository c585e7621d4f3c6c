package deploy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

func newBuilder(s Snapshot, ev Evidence) *builder {
	b := &builder{
		apps: s.Apps, sources: s.Sources, serving: s.Serving, evidence: ev,
		byID: make(map[string]*Endpoint), byApp: make(map[string][]*Endpoint),
	}
	for _, l := range s.Sources {
		for i := range l.Endpoints {
			c := &l.Endpoints[i]
			b.byID[c.ID] = c
			b.byApp[c.App] = append(b.byApp[c.App], c)
		}
	}
	return b
}

// trust says how far what is known of an app's endpoints can be relied on.
func (b *builder) trust(a *App) Trust { return a.trust(b.sources) }

// keptAsServed tells that the app's source can't be asked, so that what is served for the app goes on as it is.
func (b *builder) keptAsServed(a *App) bool { return b.trust(a) == None && len(b.serving) > 0 }

// isServed tells whether the engine serves the public address for the app.
func (b *builder) isServed(a *App, f Key) bool { return a.goesBy(b.serving[f].App) }

func (b *builder) drafts() []*draft {
	b.shareHost()
	var drafts []*draft
	for i := range b.apps {
		drafts = append(drafts, b.app(&b.apps[i])...)
	}
	return slices.DeleteFunc(b.settle(drafts), func(d *draft) bool {
		return b.trust(d.app) == Stale && !b.isServed(d.app, d.claim.Key) || !b.certified(d)
	})
}

// servesUnconfirmed tells whether an address gets connections, or may at any moment, that a source does not say to be the app's. Of a
// source that can't be asked that is not known.
func (b *builder) servesUnconfirmed() bool {
	apps := make(map[string]*App, len(b.apps))
	for i := range b.apps {
		apps[b.apps[i].Name] = &b.apps[i]
	}
	for _, service := range b.serving {
		var own, former []Server
		if a := apps[service.App]; a != nil {
			if b.trust(a) == None {
				continue
			}
			own, former = b.stillOwn(a, service), b.former(a, service)
		}
		if len(own) < len(service.All()) || slices.ContainsFunc(service.Former(), func(addr netip.AddrPort) bool { return !hasAddr(former, addr) }) {
			return true
		}
	}
	return false
}

type builder struct {
	apps     []App
	sources  map[string]Listing
	serving  map[Key]RouteState
	evidence Evidence
	byID     map[string]*Endpoint
	byApp    map[string][]*Endpoint
	problems []*Problem
	// onHost are the apps by private port whose containers listen there on the host's network, see shareHost.
	onHost map[PrivatePort][]string
}

// draft is a route before it is known which of its servers accept.
type draft struct {
	app     *App
	claim   Claim
	options Options
	// clientCA is for [Route].
	clientCA string
	servers  []Server
	// targets are where each container of these may be asked: the app may listen on one of several addresses only.
	targets map[string][]Target
	// kept are servers of the app that the engine serves now, and that may have to go on doing so.
	kept []Server
}

func (b *builder) problem(app string, listen Key, err error) {
	b.problems = append(b.problems, &Problem{App: app, Key: listen, Err: err})
}

// app drafts the routes of one app.
func (b *builder) app(a *App) []*draft {
	if a.Err != nil {
		b.problem(a.Name, Key{}, a.Err)
		return b.asServed(a, nil)
	}
	if a.Off != "" {
		return nil
	}
	places := b.places(a)
	if b.keptAsServed(a) {
		return b.asServed(a, b.claimsInForce(a, places))
	}
	drafts := make(map[Key]*draft)
	for _, image := range b.imagesInForce(a, places) {
		b.collect(drafts, a, places, a.Images[image], func(c *Endpoint) bool { return b.imageOf(a, c) == image })
	}
	b.collect(drafts, a, places, a.Operator, func(*Endpoint) bool { return true })

	list := make([]*draft, 0, len(drafts))
	for _, d := range drafts {
		slices.SortFunc(d.servers, func(x, y Server) int {
			return cmp.Or(compareDynos(x.Dyno, y.Dyno), cmp.Compare(x.Container, y.Container))
		})
		if b.trust(a) != Fresh {
			d.servers = b.stillOwn(a, b.serving[d.claim.Key])
		}
		list = append(list, d)
	}
	return list
}

// collect drafts a route for each claim that some place of the app is there for, with those of its containers that run
// and of which belongs is true.
func (b *builder) collect(drafts map[Key]*draft, a *App, places []Place, claims []Claim, belongs func(*Endpoint) bool) {
	byProcess := make(map[string][]Place)
	for _, p := range places {
		byProcess[p.Process] = append(byProcess[p.Process], p)
	}
	for _, claim := range claims {
		// A process type that is scaled to zero has no place: nothing may be held for it.
		if len(byProcess[claim.Process]) == 0 {
			continue
		}
		d := drafts[claim.Key]
		if d == nil {
			d = &draft{app: a, claim: claim, options: claim.options(a.Options), clientCA: a.ClientCA, targets: make(map[string][]Target)}
			drafts[claim.Key] = d
		}
		for _, p := range byProcess[claim.Process] {
			c := b.byID[p.Container]
			if !b.serves(a, c) || !belongs(c) {
				continue
			}
			targets, err := c.Targets(a.Upstream, claim.PrivatePort())
			if err != nil {
				err = fmt.Errorf("%s (%s): %w", p.Dyno, shortID(c.ID), err)
				kept, ok := b.servedAt(a, claim.Key, c)
				if !ok {
					b.problem(a.Name, claim.Key, err)
					continue
				}
				b.problem(a.Name, claim.Key, fmt.Errorf("%w; %w", err, ErrAddressKept))
				targets = []Target{c.target(claim.Key.Proto, kept)}
			}
			if err := b.contested(a, c, claim.Key.Proto, targets[0].Addr); err != nil {
				b.problem(a.Name, claim.Key, err)
				continue
			}
			s := serverAt(c.ID, p.Dyno, targets[0])
			if served, ok := b.servedAt(a, claim.Key, c); ok {
				if i := slices.IndexFunc(targets, func(t Target) bool { return t.Addr == served }); i > 0 {
					s = serverAt(c.ID, p.Dyno, targets[i])
				}
			}
			d.servers = append(d.servers, s)
			d.targets[c.ID] = targets
		}
	}
}

// serves tells whether c may get connections for a: it runs, Docker says that it is the app's, and Dokku is not about to
// stop it.
func (b *builder) serves(a *App, c *Endpoint) bool {
	if c == nil || !c.Running || !a.goesBy(c.App) {
		return false
	}
	return a.Deploying == nil || !slices.Contains(a.Deploying.Retired, c.ID)
}

// containersOf are all containers of the app, those from before a rename too.
func (b *builder) containersOf(a *App) []*Endpoint {
	if a.Deploying == nil || a.Deploying.Former == "" {
		return b.byApp[a.Name]
	}
	return slices.Concat(b.byApp[a.Name], b.byApp[a.Deploying.Former])
}

// imageOf is the image whose PORTS goes for c: its own, or the current one when its own was never read.
func (b *builder) imageOf(a *App, c *Endpoint) string {
	if _, ok := a.Images[c.Image]; ok {
		return c.Image
	}
	return a.Current
}

// imagesInForce are the images of the places' containers, whether these run or not, else the current one. The current
// one comes first where it is among them, the others in a stable order.
func (b *builder) imagesInForce(a *App, places []Place) []string {
	var images []string
	for _, p := range places {
		if c := b.byID[p.Container]; c != nil && a.goesBy(c.App) {
			images = append(images, b.imageOf(a, c))
		}
	}
	if len(images) == 0 {
		return []string{a.Current}
	}
	slices.SortFunc(images, func(x, y string) int {
		switch {
		case x == y:
			return 0
		case x == a.Current:
			return -1
		case y == a.Current:
			return 1
		}
		return cmp.Compare(x, y)
	})
	return slices.Compact(images)
}

// asServed drafts what the engine serves for the app now, as far as the app may ask for it and the servers are the app's own still. The
// options are those that go for it now, as far as a claim says so.
func (b *builder) asServed(a *App, claims []Claim) []*draft {
	if a.Off != "" {
		return nil
	}
	var list []*draft
	for frontend, state := range b.serving {
		if !a.goesBy(state.App) || !a.mayAsk(frontend) {
			continue
		}
		d := &draft{app: a, claim: Claim{App: a.Name, Process: state.Process, Key: frontend}, options: state.Options, clientCA: state.ClientCA}
		if i := slices.IndexFunc(claims, func(c Claim) bool { return c.Key == frontend }); i >= 0 {
			d.options, d.clientCA = claims[i].options(a.Options), a.ClientCA
		}
		if d.servers = serversAt(state.All()); b.trust(a) != None {
			d.servers = b.stillOwn(a, state)
		}
		list = append(list, d)
	}
	return list
}

// stillOwn are the servers of a service whose addresses belong to running containers of the app.
func (b *builder) stillOwn(a *App, service RouteState) []Server {
	if !a.goesBy(service.App) {
		return nil
	}
	return b.owned(a, service.Key.Proto, service.All(), func(c *Endpoint) bool { return b.serves(a, c) })
}

// owned are those of the addresses that belong to containers of the app of which is holds.
func (b *builder) owned(a *App, proto Proto, addrs []netip.AddrPort, is func(*Endpoint) bool) (servers []Server) {
	for _, addr := range addrs {
		for _, c := range b.containersOf(a) {
			if is(c) && c.Owns(proto, addr) && b.contested(a, c, proto, addr) == nil {
				servers = append(servers, serverAt(c.ID, c.Dyno, c.target(proto, addr)))
				break
			}
		}
	}
	return servers
}

// former are the servers that sessions of the route may stay on: those of all that have any, or may get some now, that are the app's still.
func (b *builder) former(a *App, service RouteState) []Server {
	addrs := slices.Concat(service.Former(), service.All())
	switch {
	case service.Key.Proto != UDP || !a.goesBy(service.App):
		return nil
	case b.trust(a) == None:
		return serversAt(addrs)
	}
	return b.owned(a, UDP, addrs, func(c *Endpoint) bool { return c.Running })
}

// servedAt is the address of c that the engine serves now for a public address of the app, if there is one.
func (b *builder) servedAt(a *App, listen Key, c *Endpoint) (netip.AddrPort, bool) {
	service := b.serving[listen]
	if !a.goesBy(service.App) {
		return netip.AddrPort{}, false
	}
	addrs := service.All()
	i := slices.IndexFunc(addrs, func(addr netip.AddrPort) bool { return c.Owns(listen.Proto, addr) })
	if i < 0 {
		return netip.AddrPort{}, false
	}
	return addrs[i], true
}

func serverAt(container, dyno string, t Target) Server {
	return Server{Container: container, Dyno: dyno, Addr: t.Addr, Published: t.Published}
}

// route makes the final route of a draft: each server that does not accept gives its place back to the one that the
// engine serves there now, if that one is still the app's and accepts.
func (b *builder) route(d *draft) Route {
	r := b.current(d)
	if r.Former = b.former(d.app, b.serving[r.Key]); len(r.Former) > 0 {
		r.Former = slices.DeleteFunc(r.Former, func(f Server) bool { return r.leadsTo(f.Addr) })
	}
	return r
}

// current is the route with those servers that get what is new.
func (b *builder) current(d *draft) Route {
	r := d.app.route(d.claim.Process, d.claim.Key, d.options, d.clientCA)
	if b.trust(d.app) != Fresh {
		for _, s := range d.servers {
			s.Proven = b.serving[r.Key].carried(r.App, s.Addr)
			r.Servers = append(r.Servers, s)
		}
		return r
	}
	if rule, reason := d.claim.contradicts(d.app.Options); rule != "" {
		remedy := contradictionRemedy(r.App, rule, d.app.Options, []Claim{d.claim})
		b.problem(r.App, r.Key, fmt.Errorf("%s: %s; %s", d.claim.Where(), reason, remedy))
	}
	kept := slices.DeleteFunc(d.kept, func(s Server) bool { return !b.evidence.accepts(d.address(s)) })
	anyProven := slices.ContainsFunc(d.servers, func(s Server) bool { return b.proven(d, s) })
	for _, s := range d.servers {
		// One that is served was not asked: what the engine has found out about it meanwhile counts.
		s.Proven = d.unchecked() || b.evidence.accepts(d.address(s)) || b.serving[r.Key].carried(r.App, s.Addr)
		if b.proven(d, s) {
			r.Servers = append(r.Servers, s)
			continue
		}
		if lack := b.evidence.lack(d.address(s)); lack != nil && b.leads(d, s) {
			// HAProxy takes a server for down for the same lack. The container is its app's, as Docker says, so the engine goes on checking it.
			remedy, _ := HostLack(lack)
			b.problem(r.App, r.Key, fmt.Errorf("%s (%s) at %s %w: %w; %s", s.Dyno, shortID(s.Container), s.Addr, ErrHostLack, lack, remedy))
			r.Servers = append(r.Servers, s)
			continue
		}
		before := slices.DeleteFunc(slices.Clone(kept), func(k Server) bool { return anyProven && k.Dyno != s.Dyno })
		if len(before) == 0 {
			// Left out rather than left to the engine's checks: what accepts at its address later may be somebody else.
			b.problem(r.App, r.Key, fmt.Errorf("%s (%s) at %s %w", s.Dyno, shortID(s.Container), s.Addr, ErrNotAccepting))
			continue
		}
		b.problem(r.App, r.Key, fmt.Errorf("%s (%s) does not accept connections at %s: %w", s.Dyno, shortID(s.Container), s.Addr, ErrKept))
		for _, k := range before {
			k.Proven = true
			if !slices.ContainsFunc(r.Servers, func(o Server) bool { return o.Addr == k.Addr }) {
				r.Servers = append(r.Servers, k)
			}
		}
	}
	return r
}

// compareDynos orders "web.2" before "web.10".
func compareDynos(x, y string) int {
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
}

// shortID is the usual short form of a container id.
func shortID(id string) string {
	return id[:min(12, len(id))]
}
