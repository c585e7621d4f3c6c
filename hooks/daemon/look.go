package daemon

import (
	"context"
	"slices"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
)

// lookPause is how often the daemon looks at what the engine does: Docker does not tell of a deploy, which makes containers old, nor
// of a container that has ceased to accept.
const lookPause = time.Second

// longestLookPause bounds the pause after a look that took long: it may have waited for HAProxy's master rather than worked.
const longestLookPause = 10 * time.Second

// draining are an app's connections on one old container.
type draining struct {
	app, container, dyno string
	connections          int
}

// name is the container's for people.
func (o draining) name() string { return o.dyno + "@" + o.container[:min(12, len(o.container))] }

func (o draining) same(p draining) bool { return o.app == p.app && o.container == p.container }

// look is what one look at the engine has found.
type look struct {
	seen deploy.Observation
	// err is why the engine could not be asked.
	err error
	// down tells that a server is down, which only a reconcile can take out of service, or bring back.
	down bool
	// pause is how long to wait for the next one.
	pause time.Duration
}

// look asks the engine, and tells d.looked. Nothing waits for an engine that is slow to answer, nor is Docker asked: servers that are
// gone have to leave service meanwhile.
func (d *healer) look(ctx context.Context) {
	looked := make(chan look, 1)
	d.looked = looked
	go func() {
		began := time.Now()
		var found look
		engine, err := d.host.Engine()
		if err == nil {
			// That it can't be asked the next reconcile says.
			found.seen, err = engine.Observe(ctx, deploy.Counters)
			for _, r := range found.seen.Routes {
				found.down = found.down || len(r.Addresses(false)) > 0
			}
		}
		found.err = err
		switch {
		case err != nil:
			found.pause = lookPause
		case !found.seen.Running:
			found.pause = lookAgain
		default:
			// With thousands of ports a look costs something.
			found.pause = min(max(lookPause, 50*time.Since(began)), longestLookPause)
		}
		looked <- found
	}()
}

// noteOld logs when there are connections on old containers, and when such a container has ended: Dokku stops old containers whether
// anybody is connected to them or not. How many connections a container ends, nobody can count afterwards: some of those that the look
// before found may have ended by themselves, none was added.
func (d *healer) noteOld(routes []deploy.RouteState) {
	if routes == nil {
		return // The engine could not be asked.
	}
	known := deploy.Endpoints(d.known)
	runs := func(container string) bool {
		return slices.ContainsFunc(known, func(c deploy.Endpoint) bool { return c.ID == container && c.Running })
	}
	var now []draining
	for i := range routes {
		r := &routes[i]
		host.NameServers(r, known)
		for _, s := range r.Servers {
			// What a dead container has left is of no use: its client has been told of the end, and may be in no hurry.
			if !s.Old || s.Connections == 0 || !runs(s.Container) {
				continue
			}
			o := draining{app: r.App, container: s.Container, dyno: s.Dyno}
			i := slices.IndexFunc(now, o.same)
			if i < 0 {
				i = len(now)
				now = append(now, o)
			}
			now[i].connections += s.Connections
		}
	}
	for _, o := range now {
		if !slices.ContainsFunc(d.old, o.same) {
			d.log.Info("drain", "app", o.app, "container", o.name(), "connections", o.connections)
		}
	}
	for _, o := range d.old {
		if !runs(o.container) {
			d.log.Info("ended", "app", o.app, "container", o.name(), "connections_at_most", o.connections)
		}
	}
	d.old = now
}

// cutOld ends connections that a look has found on old containers, where their app limits their time (old-connections).
func (d *healer) cutOld(ctx context.Context, routes []deploy.RouteState) error {
	limits := make(map[string]time.Duration)
	for _, r := range routes {
		if !slices.ContainsFunc(r.Servers, func(s deploy.ServerState) bool { return s.Old && s.Connections > 0 }) {
			continue
		}
		values, err := d.host.Settings.Effective(r.App)
		if err != nil {
			continue // A reconcile reports it.
		}
		if values.OldConnections != settings.KeepOld {
			limits[r.App] = values.OldConnections
		}
	}
	if len(limits) == 0 {
		return nil
	}
	engine, err := d.host.Engine()
	if err != nil {
		return err
	}
	return d.host.UnderLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		cut, err := engine.CutOld(ctx, limits)
		d.host.RecordCut(cut)
		return err
	})
}
