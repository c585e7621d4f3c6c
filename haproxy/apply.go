package haproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"dokku-expose/deploy"
)

const (
	// undoTimeout bounds putting back what was in force, for which the caller's own time may be over.
	undoTimeout = 30 * time.Second
	// listenTimeout bounds the wait for a HAProxy that has closed its listeners. 2.6 does for up to two seconds. One that has
	// ended is not waited for any longer: what starts it again may itself be waiting until this is over.
	listenTimeout = 5 * time.Second
)

// Apply implements [deploy.Engine]. Without a running HAProxy the file is written for its next start, and the error wraps
// [deploy.ErrNotRunning].
func (e *Engine) Apply(ctx context.Context, t deploy.Table) (deploy.Applied, error) {
	live, err := e.read(ctx)
	if errors.Is(err, deploy.ErrNotRunning) {
		return deploy.Applied{}, errors.Join(e.Prepare(ctx, t), err)
	}
	if err != nil {
		return deploy.Applied{}, err
	}
	var applied deploy.Applied
	refused, err := e.each(ctx, t.Routes, live, func(routes []deploy.Route) (err error) {
		applied, err = e.attempt(ctx, routes, live)
		return err
	})
	if err == nil {
		applied.Cut, applied.Unended = e.cutFormer(ctx, t)
	}
	return applied, errors.Join(refused, err)
}

// cutFormer ends connections that must not go on, in the running worker and in old ones.
func (e *Engine) cutFormer(ctx context.Context, t deploy.Table) ([]deploy.Cut, error) {
	limits := cutLimits(t)
	if len(limits) == 0 {
		live, err := e.identify(ctx)
		if err != nil || live.uptime > longestTry(t) {
			return nil, err // Connections that tried to reach a server at the last reload have given up.
		}
		return nil, e.cutInOldWorkers(ctx, wantedBy(t), live, limits, nil)
	}
	live, err := e.read(ctx)
	if err != nil {
		return nil, err
	}
	return e.cutOverdue(ctx, wantedBy(t), live, limits)
}

// cutOverdue ends the connections on former servers whose time is over, in the running worker and in old ones, and counts them.
func (e *Engine) cutOverdue(ctx context.Context, wanted map[string]map[netip.AddrPort]bool, live *snapshot, limits map[string]time.Duration) ([]deploy.Cut, error) {
	counts := make(map[string]int)
	err := e.cutInWorker(ctx, live, limits, counts)
	if err == nil {
		err = e.cutInOldWorkers(ctx, wanted, live, limits, counts)
	}
	var cut []deploy.Cut
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		app, listen, _ := parseName(name)
		cut = append(cut, deploy.Cut{App: app, Key: listen, Connections: counts[name]})
	}
	return cut, err
}

// CutOld implements [deploy.Engine]. It asks for nothing but what the running HAProxy does. An Apply does the same for routes with a limit,
// at that moment.
func (e *Engine) CutOld(ctx context.Context, limits map[string]time.Duration) ([]deploy.Cut, error) {
	live, err := e.read(ctx)
	if errors.Is(err, deploy.ErrNotRunning) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	byProxy, wanted := make(map[string]time.Duration), make(map[string]map[netip.AddrPort]bool)
	for name, slots := range live.proxies {
		app, _, _ := parseName(name)
		if limit, ok := limits[app]; ok {
			byProxy[name] = limit.Truncate(time.Second)
		}
		wanted[name] = make(map[netip.AddrPort]bool)
		for _, s := range slots {
			if s.ready {
				wanted[name][s.addr] = true
			}
		}
	}
	return e.cutOverdue(ctx, wanted, live, byProxy)
}

// cutLimits are the times for which routes let connections stay on servers out of service, of those that have one.
func cutLimits(t deploy.Table) map[string]time.Duration {
	limits := make(map[string]time.Duration)
	for _, r := range t.Routes {
		if r.CutOld > 0 {
			// HAProxy counts the time out of service in whole seconds.
			limits[proxyName(r.App, r.Key)] = r.CutOld.Truncate(time.Second)
		}
	}
	return limits
}

// cutInWorker ends the connections of slots that have been out of service for longer than their route lets connections stay. Those
// of a slot that serves again at another address are not told apart from its new ones, and stay. It adds them to counts, by proxy.
func (e *Engine) cutInWorker(ctx context.Context, live *snapshot, limits map[string]time.Duration, counts map[string]int) error {
	if err := live.withSessions(ctx, e.command); err != nil {
		return err
	}
	for name, limit := range limits {
		due := slices.DeleteFunc(slices.Clone(live.proxies[name]), func(s slot) bool { return s.ready || s.sessions == 0 || s.age < limit })
		if len(due) == 0 {
			continue
		}
		// HAProxy does not say how many connections it ends. The count comes with the same line: none ends by itself in between.
		line := fmt.Sprintf("show stat %s 4 -1", name)
		for _, s := range due {
			line += fmt.Sprintf(";shutdown sessions server %s/%s", name, s.name)
		}
		answer, err := e.command(ctx, line)
		if err != nil {
			return err
		}
		if err := live.countSessions(answer); err != nil {
			return err
		}
		for _, s := range live.proxies[name] {
			if n := s.sessions; n > 0 && slices.ContainsFunc(due, func(d slot) bool { return d.name == s.name }) {
				counts[name] += n
			}
		}
	}
	return nil
}

// Prepare writes a valid configuration of t for the next start of HAProxy. Routes that it could not listen for are left out
// and reported as *deploy.RouteError, joined; the file is written all the same. Any other error means that the file is what it
// was.
func (e *Engine) Prepare(ctx context.Context, t deploy.Table) error {
	// One that does run is not expected here, but its listeners must not be taken for somebody else's.
	live, err := e.read(ctx)
	if errors.Is(err, deploy.ErrNotRunning) {
		live, err = &snapshot{}, nil
	}
	if err != nil {
		return err
	}
	refused, err := e.each(ctx, t.Routes, live, func(routes []deploy.Route) error {
		w, err := e.want(routes, live, true)
		if err != nil {
			return err
		}
		if err := e.validate(ctx, w); err != nil {
			return err
		}
		now, err := e.readFiles()
		if err != nil {
			return err
		}
		if err := e.write(w.files, now); err != nil {
			return err
		}
		e.removeBundles(w.proxies)
		return nil
	})
	return errors.Join(refused, err)
}

// serverLine is a server of a route in a configuration, but for the one that holds connections.
var serverLine = regexp.MustCompile(`(?m)^(    server s\d+) \S+( disabled)?$`)

// Disarm takes all servers out of the configuration that the next start of HAProxy reads, whose connections are then held
// until an Apply. It is for a start about which nothing is known yet: since the file was written, addresses may have become
// those of other apps' containers. It does nothing while HAProxy runs, or when there is no file. It needs only the paths of
// [Config].
func (e *Engine) Disarm(ctx context.Context) error {
	if _, err := e.identify(ctx); !errors.Is(err, deploy.ErrNotRunning) {
		return err
	}
	now, err := e.readFiles()
	if err != nil {
		return err
	}
	next := files{text: serverLine.ReplaceAll(now.text, []byte("${1} "+nowhere.String()+" disabled"))}
	if bytes.Equal(now.text, next.text) {
		return nil
	}
	if all := now.saved(); len(all) > 0 {
		for i, r := range all[0].Routes {
			all[0].Routes[i].Servers = make([]deploy.Server, len(r.Servers))
		}
		if next, err = newFiles(next.text, all[0].Structure, all[0].Routes); err != nil {
			return err
		}
	}
	return e.write(next, now)
}

// each runs try with those routes that HAProxy can listen for. When it fails for some of them all the same, it is run once
// more without these: a port may be taken after it was looked at, and no other route must wait for that to be put right.
func (e *Engine) each(ctx context.Context, routes []deploy.Route, live *snapshot, try func([]deploy.Route) error) (refused, err error) {
	routes, errs, err := e.bindable(routes, live)
	if err != nil {
		return nil, err
	}
	routes, unnamed := e.certifyUnknown(routes, live)
	routes, uncertified, err := e.certify(ctx, routes, live)
	if err != nil {
		return nil, err
	}
	errs = slices.Concat(errs, unnamed, uncertified)
	err = try(routes)
	if bad := (*rejection)(nil); errors.As(err, &bad) {
		errs = append(errs, bad.routes...)
		err = try(slices.DeleteFunc(slices.Clone(routes), bad.rejects))
	}
	for _, r := range errs {
		refused = errors.Join(refused, r)
	}
	return refused, err
}

// wanted is a configuration to be.
type wanted struct {
	proxies []proxy
	// structure identifies the configuration apart from changes that need no reload.
	structure string
	// acls are the networks that the running HAProxy can be told to change.
	acls []acl
	files
}

// want makes the configuration of routes. With keep it is as near to what runs as can be (see plan), without it is what a
// new worker is to be started with.
func (e *Engine) want(routes []deploy.Route, live *snapshot, keep bool) (wanted, error) {
	stats, err := e.statsFree(live)
	if err != nil {
		return wanted{}, err
	}
	g, err := e.generation(live)
	if err != nil {
		return wanted{}, err
	}
	if !keep {
		g = g.next()
	}
	return e.render(plan(routes, live, keep), stats, g, live)
}

// attempt makes routes real, or leaves everything as it was.
func (e *Engine) attempt(ctx context.Context, routes []deploy.Route, live *snapshot) (applied deploy.Applied, err error) {
	var moving []string
	for _, r := range routes {
		name := proxyName(r.App, r.Key)
		running, runs := live.proxies[name]
		if serves(r, running) {
			continue
		}
		applied.Switched = append(applied.Switched, r.Key)
		if runs {
			moving = append(moving, name)
		}
	}
	if len(moving) > 0 {
		if err := live.withSessions(ctx, e.command, moving...); err != nil {
			return deploy.Applied{}, err
		}
	}
	w, err := e.want(routes, live, true)
	if err != nil {
		return deploy.Applied{}, err
	}
	kept := w.proxies
	if w.structure != live.structure || live.outdated != "" {
		applied.Reload = live.outdated
		if w.structure != live.structure {
			applied.Reload = reason(w.proxies, live)
		}
		if w, err = e.want(routes, live, false); err != nil {
			return deploy.Applied{}, err
		}
		if err := e.validate(ctx, w); err != nil {
			return deploy.Applied{}, err
		}
	}

	last, err := e.readFiles()
	if err != nil {
		return deploy.Applied{}, err
	}
	// The file comes first: a reload by anybody, at any moment, must not bring back a server that is gone.
	if !last.equal(w.files) {
		if err := e.write(w.files, last); err != nil {
			return deploy.Applied{}, errors.Join(err, e.withdraw(ctx, kept, live))
		}
	}
	if applied.Reload == "" {
		err = e.converge(ctx, w.proxies, w.acls, live, live)
	} else {
		err = e.exchange(ctx, w, kept, live)
	}
	if err != nil {
		return deploy.Applied{}, errors.Join(err, e.undo(ctx, last, live))
	}
	e.settle(w.files, last)
	e.removeBundles(w.proxies)
	return applied, nil
}

// exchange puts a worker with a new structure in the place of the running one.
func (e *Engine) exchange(ctx context.Context, w wanted, kept []proxy, live *snapshot) error {
	// What the running worker can do without a reload, it does first: connections that it holds, or has accepted in the
	// moment of the reload, then lead to the new servers and to none that is gone, for it will hear of no change any more.
	kept = slices.DeleteFunc(slices.Clone(kept), func(p proxy) bool { return len(live.proxies[p.name]) != len(p.slots) })
	if err := e.converge(ctx, kept, nil, live, live); err != nil {
		return err
	}
	if err := e.reload(ctx, w, live); err != nil {
		return err
	}
	now, err := e.read(ctx)
	if err != nil {
		return err
	}
	return e.converge(ctx, w.proxies, w.acls, now, live)
}

// withdraw takes servers that are not wanted any more out of service where nothing else is to change. It is for a file that
// can't be written (the disk is full): the address of a container that is gone may be another app's in a moment.
func (e *Engine) withdraw(ctx context.Context, kept []proxy, live *snapshot) error {
	gone := slices.DeleteFunc(slices.Clone(kept), func(p proxy) bool {
		running := live.proxies[p.name]
		return len(running) != len(p.slots) || slices.ContainsFunc(p.slots, func(s *deploy.Server) bool {
			return s != nil && !slices.ContainsFunc(running, func(r slot) bool { return r.ready && r.addr == s.Addr })
		})
	})
	for name, running := range live.proxies {
		if slices.ContainsFunc(kept, func(p proxy) bool { return p.name == name }) {
			continue
		}
		app, listen, _ := parseName(name)
		gone = append(gone, proxy{name: name, route: deploy.Route{App: app, Key: listen}, slots: make([]*deploy.Server, len(running))})
	}
	return e.converge(ctx, gone, nil, live, live)
}

// undo puts back the last configuration and the servers of live.
func (e *Engine) undo(ctx context.Context, last files, live *snapshot) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("putting back what was in force: %w", err)
		}
	}()
	if len(last.text) > 0 {
		failed, err := e.readFiles()
		if err != nil {
			return err
		}
		if err := e.write(last, failed); err != nil {
			return err
		}
	}
	var now *snapshot
	listens, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	err = await(listens, "HAProxy listens again", func() (done bool, err error) {
		// A worker whose successor could not bind has closed its listeners for it, and opens them a moment later.
		if closed, err := anyFrontend(listens, e.command, "STOP", "PAUSED"); closed || err != nil {
			return false, err
		}
		now, err = e.read(listens)
		return err == nil, err
	})
	if err != nil {
		return err
	}
	if now.structure == live.structure {
		return e.converge(ctx, asRunning(live), numbered(routesOf(live, last.saved())), now, live)
	}
	w := wanted{structure: live.structure, files: last}
	if all := last.saved(); len(all) > 0 {
		w.structure = all[0].Structure
	}
	return e.reload(ctx, w, now)
}
