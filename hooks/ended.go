package hooks

import (
	"context"
	"slices"
	"time"

	"dokku-expose/deploy"
)

// How often the daemon counts the connections on old containers, while there are any and while there are none. A deploy, which is
// what makes containers old, is nothing that Docker tells of.
const drainLook, idleLook = 2 * time.Second, 5 * time.Second

// draining are an app's connections on one old container.
type draining struct {
	app, container, dyno string
	connections          int
}

// lookAtOld counts the connections on old containers, and logs those that have ended together with their container: Dokku stops
// old containers whether anybody is connected to them or not. How many they were is what the look before that found.
func (d *healer) lookAtOld(ctx context.Context) {
	facts, err := d.host.facts(ctx)
	if err != nil {
		return // The next reconcile says so.
	}
	var now []draining
	for _, r := range facts.Routes {
		for _, s := range r.Servers {
			if !s.Old || s.Connections == 0 || s.Container == "" {
				continue
			}
			i := slices.IndexFunc(now, func(o draining) bool { return o.app == r.App && o.container == s.Container })
			if i < 0 {
				i = len(now)
				now = append(now, draining{app: r.App, container: s.Container, dyno: s.Dyno})
			}
			now[i].connections += s.Connections
		}
	}
	for _, before := range d.old {
		there := slices.ContainsFunc(now, func(o draining) bool { return o.app == before.app && o.container == before.container })
		runs := slices.ContainsFunc(d.known, func(c deploy.Container) bool { return c.ID == before.container && c.Running })
		if !there && !runs {
			d.log.Warn("cut", "app", before.app, "container", before.dyno+"@"+before.container[:min(12, len(before.container))],
				"connections", before.connections, "reason", "their old container was stopped")
		}
	}
	d.old = now
}
