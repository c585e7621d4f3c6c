package hooks

import (
	"context"
	"slices"
	"time"

	"dokku-expose/deploy"
)

// oldLook is how often the daemon counts the connections on old containers. A deploy, which is what makes containers old, is
// nothing that Docker tells of.
const oldLook = 2 * time.Second

// draining are an app's connections on one old container.
type draining struct {
	app, container, dyno string
	connections          int
}

// name is the container's for people.
func (o draining) name() string { return o.dyno + "@" + o.container[:min(12, len(o.container))] }

func (o draining) same(p draining) bool { return o.app == p.app && o.container == p.container }

// lookAtOld counts the connections on old containers. It logs when there are some, and when they have ended together with their
// container: Dokku stops old containers whether anybody is connected to them or not. How many they were then is what the look
// before found.
func (d *healer) lookAtOld(ctx context.Context) {
	facts, err := d.host.facts(ctx)
	if err != nil {
		return // The next reconcile says so.
	}
	runs := func(container string) bool {
		return slices.ContainsFunc(d.known, func(c deploy.Container) bool { return c.ID == container && c.Running })
	}
	var now []draining
	for _, r := range facts.Routes {
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
			d.log.Warn("cut", "app", o.app, "container", o.name(), "connections", o.connections)
		}
	}
	d.old = now
}
