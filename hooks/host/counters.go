package host

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/source/docker"
	"dokku-expose/deploy/source/kube"
)

// Counters are those of the engine in force. That it does not run is an error.
func (h *Host) Counters(ctx context.Context) (deploy.Observation, error) {
	engine, err := h.Engine()
	if err != nil {
		return deploy.Observation{}, err
	}
	o, err := engine.Observe(ctx, deploy.Counters)
	return o, cmp.Or(err, NotRunning(o))
}

// NamedCounters are the counters with all that is known of the containers behind addresses.
func (h *Host) NamedCounters(ctx context.Context) (deploy.Observation, error) {
	o, err := h.Counters(ctx)
	h.AddCertificates(o.Routes)
	if err != nil || !slices.ContainsFunc(o.Routes, isNameless) {
		return o, err
	}
	containers, lost := h.endpoints(ctx)
	// The engine's counts are known all the same.
	var warnings []string
	for _, name := range slices.Sorted(maps.Keys(lost)) {
		warnings = append(warnings, fmt.Sprintf("containers are shown by their addresses only, since %s can't be asked: %v", sourceTitle[name], lost[name]))
	}
	o.Warning = strings.Join(warnings, "; ")
	if err := name(o.Routes, containers, h.processes); err != nil {
		return o, err
	}
	o.Sort()
	return o, nil
}

// AddCertificates adds the end of its certificate to each route that ends TLS.
func (h *Host) AddCertificates(routes []deploy.RouteState) {
	leaves := h.Leaves()
	for i := range routes {
		if r := &routes[i]; r.Options.TLS == deploy.TerminateTLS {
			if leaf := leaves(r.App); leaf.Certificate != nil {
				r.CertificateEnds = leaf.NotAfter
			}
		}
	}
}

// askDocker bounds what is waited for names: the page and a scrape don't wait much longer for all of it.
const askDocker = 3 * time.Second

// sourceTitle is what people call a source.
var sourceTitle = map[string]string{docker.Name: "Docker", kube.Name: "the cluster"}

func (h *Host) endpoints(ctx context.Context) ([]deploy.Endpoint, map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, askDocker)
	defer cancel()
	return h.Endpoints(ctx)
}

func isNameless(r deploy.RouteState) bool {
	return r.Process == "" || slices.ContainsFunc(r.Servers, func(s deploy.ServerState) bool { return s.Container == "" })
}

// name adds what the engine does not know: the containers behind addresses, and the process types of ports. An app may have a
// thousand ports, and to ask for its processes is to read all that is known of it: each app is asked for once.
func name(routes []deploy.RouteState, containers []deploy.Endpoint, processes func(app string) (map[deploy.Key]string, error)) error {
	asked := make(map[string]map[deploy.Key]string)
	for i := range routes {
		r := &routes[i]
		NameServers(r, containers)
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
		r.Process = of[r.Key]
	}
	return nil
}

// NameServers says which containers are behind the addresses of a route. One that is gone keeps no name: its address may be
// another one's by now.
func NameServers(r *deploy.RouteState, containers []deploy.Endpoint) {
	for i := range r.Servers {
		s := &r.Servers[i]
		for _, c := range containers {
			if c.App == r.App && c.Running && c.Owns(r.Key.Proto, s.Addr) {
				s.Container, s.Dyno = c.ID, c.Dyno
			}
		}
	}
}

// processes are the process types that an app's public addresses lead to now.
func (h *Host) processes(name string) (map[deploy.Key]string, error) {
	app, err := h.App(name)
	if err != nil {
		return nil, err
	}
	types := make(map[deploy.Key]string)
	for _, claim := range slices.Concat(app.Operator, app.Images[app.Current]) {
		types[claim.Key] = claim.Process
	}
	return types, nil
}
