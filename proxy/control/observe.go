package control

import (
	"slices"

	"dokku-expose/deploy"
)

// observe is the daemon's observation of itself. Counters include the connections of predecessors.
func (d *daemon) observe(aspects []deploy.Aspect) *observed {
	o, _ := d.server.Observe(d.closing, aspects...) // which never fails
	o.Version = d.version
	if slices.Contains(aspects, deploy.Counters) || slices.Contains(aspects, deploy.Health) {
		for _, p := range d.predecessors.observe(aspects) {
			merge(&o, p)
		}
		o.Sort()
	}
	said := &observed{Observation: o, Processes: o.Processes}
	if d.page != nil {
		said.Page = d.page()
	}
	return said
}

// merge adds the connections that a predecessor still has. Its totals stay apart.
func merge(o *deploy.Observation, p *observed) {
	o.Old = append(o.Old, deploy.Process{PID: p.Processes[0], Connections: p.Connections()})
	o.Old, o.Processes = append(o.Old, p.Old...), append(o.Processes, p.Processes...)
	for _, r := range p.Routes {
		at := slices.IndexFunc(o.Routes, func(now deploy.RouteState) bool { return now.App == r.App && now.Key == r.Key })
		if at < 0 {
			o.Routes = append(o.Routes, deploy.RouteState{App: r.App, Process: r.Process, Key: r.Key, Servers: []deploy.ServerState{}})
			at = len(o.Routes) - 1
		}
		route := &o.Routes[at]
		route.Held += r.Held
		for _, s := range r.Servers {
			i := slices.IndexFunc(route.Servers, func(now deploy.ServerState) bool { return now.Container == s.Container && now.Addr == s.Addr })
			switch {
			case i >= 0:
				route.Servers[i].Connections += s.Connections
			case s.Connections > 0:
				s.Old, s.Counts = true, nil
				route.Servers = append(route.Servers, s)
			}
		}
	}
}
