package hooks

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/haproxy"
	"dokku-expose/proxy"
	"dokku-expose/stats"
)

// facts are those of the engine in force, with all that is known of the containers behind addresses.
func (h *Host) facts(ctx context.Context) (stats.Facts, error) {
	engine, err := h.engine()
	if err != nil {
		return stats.Facts{}, err
	}
	facts, err := engine.Facts(ctx)
	if err != nil || !slices.ContainsFunc(facts.Routes, isNameless) {
		return facts, err
	}
	containers, err := h.containers(ctx)
	if err != nil {
		// What the engine counts is known all the same.
		facts.Warning = fmt.Sprintf("containers are shown by their addresses only, since Docker can't be asked: %v", err)
	}
	if err := name(facts.Routes, containers, h.processes); err != nil {
		return facts, err
	}
	facts.Sort()
	return facts, nil
}

// askDocker bounds what is waited for names: the page and a scrape don't wait much longer for all of it.
const askDocker = 3 * time.Second

func (h *Host) containers(ctx context.Context) ([]deploy.Container, error) {
	client, err := h.docker()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askDocker)
	defer cancel()
	return client.Containers(ctx)
}

func isNameless(r stats.Route) bool {
	return r.Process == "" || slices.ContainsFunc(r.Servers, func(s stats.Server) bool { return s.Container == "" })
}

// name adds what the engine does not know: the containers behind addresses, and the process types of ports. An app may have a
// thousand ports, and to ask for its processes is to read all that is known of it: each app is asked for once.
func name(routes []stats.Route, containers []deploy.Container, processes func(app string) (map[string]string, error)) error {
	asked := make(map[string]map[string]string)
	for i := range routes {
		r := &routes[i]
		nameServers(r, containers)
		if r.Process != "" {
			continue
		}
		of, known := asked[r.App]
		if !known {
			var err error
			if of, err = processes(r.App); err != nil {
				return err
			}
			asked[r.App] = of
		}
		r.Process = of[r.Public]
	}
	return nil
}

// nameServers says which containers are behind the addresses of a route. One that is gone keeps no name: its address may be
// another one's by now.
func nameServers(r *stats.Route, containers []deploy.Container) {
	for i := range r.Servers {
		s := &r.Servers[i]
		addr, err := netip.ParseAddrPort(s.Addr)
		if err != nil {
			continue
		}
		for _, c := range containers {
			if c.App == r.App && c.Running && c.Owns(addr) {
				s.Container, s.Dyno = c.ID, c.Dyno
			}
		}
	}
}

// processes are the process types that an app's public addresses lead to now.
func (h *Host) processes(name string) (map[string]string, error) {
	app, err := h.app(name)
	if err != nil {
		return nil, err
	}
	types := make(map[string]string)
	for _, claim := range slices.Concat(app.Operator, app.Images[app.Current]) {
		types[claim.Listen.String()] = claim.Process
	}
	return types, nil
}

// Facts implements engine.
func (e haproxyEngine) Facts(ctx context.Context) (stats.Facts, error) {
	t, err := e.Traffic(ctx)
	if err != nil {
		return stats.Facts{}, err
	}
	reloads := uint64(max(t.Reloads, 0))
	facts := stats.Facts{
		Engine: e.Name(), PID: t.Master, Version: t.Version, Since: t.Since, MaxConnections: t.MaxConnections,
		Reloads: &reloads, Old: []stats.Process{}, Routes: []stats.Route{},
	}
	for _, w := range t.Old {
		facts.Old = append(facts.Old, stats.Process{PID: w.PID, Connections: w.Connections})
	}
	for _, r := range t.Routes {
		facts.Routes = append(facts.Routes, haproxyRoute(r))
	}
	return facts, nil
}

func haproxyRoute(r haproxy.RouteTraffic) stats.Route {
	unserved := r.Unserved
	route := stats.Route{
		App: r.App, Public: r.Listen.String(), Listening: r.Listening, Held: r.Held,
		Total: r.Total, Failed: r.Failed, In: r.In, Out: r.Out, Unserved: &unserved, Servers: []stats.Server{},
	}
	for _, s := range r.Servers {
		route.Servers = append(route.Servers, stats.Server{Addr: s.Addr.String(), Old: !s.Current, Up: s.Up, Connections: s.Connections})
	}
	return route
}

// Facts implements engine.
func (e builtinEngine) Facts(ctx context.Context) (stats.Facts, error) {
	status, err := e.client.Status(ctx)
	if err != nil {
		return stats.Facts{}, err
	}
	facts := stats.Facts{
		Engine: e.Name(), Version: status.Version, Since: status.Started, MaxConnections: status.MaxConnections,
		Switches: &stats.Switches{Count: status.Switches, Seconds: status.SwitchTime.Seconds()},
		Old:      []stats.Process{}, Routes: []stats.Route{},
	}
	for _, r := range status.Routes {
		facts.Routes = append(facts.Routes, builtinRoute(r))
	}
	for _, p := range status.Predecessors {
		addPredecessor(&facts, p)
	}
	facts.Sort()
	return facts, nil
}

func builtinRoute(r proxy.RouteStatus) stats.Route {
	route := stats.Route{
		App: r.App, Process: r.Process, Public: r.Public, Listening: r.Serving, Held: r.Held,
		Total: r.Total, Failed: r.Failed, In: r.In, Out: r.Out, Unserved: &r.Unserved, Drained: &r.Drained,
		Switched: r.Switched, Servers: []stats.Server{},
	}
	for _, s := range r.Servers {
		route.Servers = append(route.Servers, builtinServer(s))
	}
	return route
}

func builtinServer(s proxy.ServerStatus) stats.Server {
	return stats.Server{
		Dyno: s.Dyno, Container: s.Container, Addr: s.Addr, Old: !s.Current, Up: s.Up, Connections: s.Connections,
		Counts: &stats.Counts{Total: s.Total, Failed: s.Failed, In: s.In, Out: s.Out},
	}
}

// addPredecessor adds the connections that a daemon has still that was taken over from. Its totals are not the current one's.
func addPredecessor(facts *stats.Facts, p proxy.Status) {
	facts.Old = append(facts.Old, stats.Process{PID: p.PID, Connections: p.Connections})
	for _, r := range p.Routes {
		at := slices.IndexFunc(facts.Routes, func(o stats.Route) bool { return o.App == r.App && o.Public == r.Public })
		if at < 0 {
			facts.Routes = append(facts.Routes, stats.Route{App: r.App, Process: r.Process, Public: r.Public})
			at = len(facts.Routes) - 1
		}
		route := &facts.Routes[at]
		route.Held += r.Held
		for _, s := range r.Servers {
			i := slices.IndexFunc(route.Servers, func(o stats.Server) bool { return o.Container == s.Container && o.Addr == s.Addr })
			switch {
			case i >= 0:
				route.Servers[i].Connections += s.Connections
			case s.Connections > 0:
				old := builtinServer(s)
				old.Old, old.Counts = true, nil
				route.Servers = append(route.Servers, old)
			}
		}
	}
	for _, older := range p.Predecessors {
		addPredecessor(facts, older)
	}
}
