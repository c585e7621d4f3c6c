package haproxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"dokku-expose/deploy"
)

// Observe implements [deploy.Engine].
func (e *Engine) Observe(ctx context.Context, aspects ...deploy.Aspect) (deploy.Observation, error) {
	o := deploy.Observation{Engine: e.Name(), Old: []deploy.Process{}, Routes: []deploy.RouteState{}}
	live, err := e.read(ctx)
	if errors.Is(err, deploy.ErrNotRunning) {
		o.Wrong = []error{err}
		return o, nil
	}
	if err != nil {
		return o, err
	}
	o.Running, o.Version, o.MaxConnections = true, live.version, live.maxConnections
	if live.stats != "" {
		if o.Page, err = netip.ParseAddrPort(live.stats); err != nil {
			return o, fmt.Errorf("address of the statistics page: %w", err)
		}
		if e.cfg.DaemonSocket != "" {
			o.Containers = "containers"
		}
	}
	files, err := e.readFiles()
	if err != nil {
		return o, err
	}
	all := files.saved()
	o.Routes = routes(live, all)
	if slices.Contains(aspects, deploy.Counters) {
		err = e.count(ctx, live, &o)
	}
	if slices.Contains(aspects, deploy.Health) {
		err = errors.Join(err, e.examine(ctx, live, all, &o))
	}
	return o, err
}

// routes are what the running worker serves.
func routes(live *snapshot, all []saved) []deploy.RouteState {
	saved := make(map[string]deploy.Route)
	for _, r := range routesOf(live, all) {
		saved[r.App] = r
	}
	routes := make([]deploy.RouteState, 0, len(live.proxies))
	for _, name := range slices.Sorted(maps.Keys(live.proxies)) {
		app, listen, _ := parseName(name)
		route, known := saved[name]
		if !known { // Nobody may take it to be open.
			route.Options.Allow = deploy.NetworksOf()
		}
		r := deploy.RouteState{App: app, Key: listen, Listening: true, Process: route.Process, Options: route.Options, ClientCA: route.ClientCA, Servers: []deploy.ServerState{}}
		for _, s := range live.proxies[name] {
			if s.ready {
				r.Servers = append(r.Servers, deploy.ServerState{Addr: s.addr, Up: s.up})
			}
		}
		routes = append(routes, r)
	}
	return routes
}

// crashesAtExit are the versions of HAProxy whose old workers can crash at their end (haproxy#2114).
var crashesAtExit = regexp.MustCompile(`^2\.6\.1[0-3]\b`)

// examine adds what is wrong with the running HAProxy, and what is worth knowing of it.
func (e *Engine) examine(ctx context.Context, live *snapshot, all []saved, o *deploy.Observation) error {
	p, err := e.processes(ctx)
	if err != nil {
		return err
	}
	o.Processes = append(p.workers, p.master)
	how, err := e.stale(ctx, all, live)
	if err != nil {
		return err
	}
	if how != "" {
		o.Wrong = append(o.Wrong, fmt.Errorf("HAProxy runs with something else than its configuration file says (%s); run: dokku expose:sync", how))
	}
	// It runs, whatever has become of its program.
	if installed, err := e.Installed(ctx); err != nil {
		o.Wrong = append(o.Wrong, err)
	} else if installed != live.version {
		o.Wrong = append(o.Wrong, fmt.Errorf("the HAProxy that runs is version %s, but %s is installed; let the new one run, which ends connections: %s",
			live.version, installed, restart))
	}
	if o.HasFew(e.cfg.TotalConnections) {
		o.Wrong = append(o.Wrong, fmt.Errorf("HAProxy can have %d connections at a time; let its service have more open files (LimitNOFILE), six a connection, then restart it: %s",
			o.MaxConnections, restart))
	}
	if crashesAtExit.MatchString(live.version) {
		o.Remarks = append(o.Remarks, &deploy.Problem{Err: fmt.Errorf("an old worker of HAProxy %s can crash when its last connection has ended (code 139 in its log), which costs no connection; 2.6.14 mends it", live.version)})
	}
	told := make(map[string]bool)
	for _, r := range o.Routes {
		if !told[r.App] && len(r.Options.AcceptProxy.Prefixes()) > 0 {
			told[r.App] = true
			o.Remarks = append(o.Remarks, &deploy.Problem{App: r.App, Key: r.Key, Err: errors.New(
				"HAProxy closes a proxy whose PROXY header comes in more than one TCP segment, is UNKNOWN with addresses, or is of another family than TCP over IPv4 or IPv6; " +
					"where a proxy sends such a header, use the engine that reads all of them: dokku expose:set --global engine builtin")})
		}
	}
	return nil
}

// Installed is the version of the program that the next start runs. It asks the program: "HAProxy version 2.6.12-1+deb12u4 2023/12/16 - ...".
func (e *Engine) Installed(ctx context.Context) (string, error) {
	text, err := e.aboutProgram(ctx)
	if err != nil {
		return "", err
	}
	fields := strings.Fields(text)
	i := slices.Index(fields, "version")
	if i < 0 || i+1 == len(fields) {
		return "", fmt.Errorf("%s -vv does not tell its version: %.200s", e.cfg.Binary, text)
	}
	return fields[i+1], nil
}

// aboutProgram is what the installed program says of itself.
func (e *Engine) aboutProgram(ctx context.Context) (string, error) {
	text, err := exec.CommandContext(ctx, e.cfg.Binary, "-vv").Output()
	if err != nil {
		return "", fmt.Errorf("the version of %s: %w", e.cfg.Binary, err)
	}
	return string(text), nil
}

// stale says how what runs differs from the files.
func (e *Engine) stale(ctx context.Context, all []saved, live *snapshot) (string, error) {
	switch {
	case len(all) == 0:
		return "somebody else has changed the file", nil
	case all[0].Structure != live.structure:
		return "it was started with another configuration", nil
	}
	routes := all[0].Routes
	for _, r := range routes {
		if !slices.EqualFunc(live.proxies[r.App], r.Servers, func(now slot, filed deploy.Server) bool {
			return now.ready == filed.Addr.IsValid() && (!now.ready || now.addr == filed.Addr)
		}) {
			app, listen, _ := parseName(r.App)
			return fmt.Sprintf("public port %s of %s has other servers", listen, app), nil
		}
	}
	networks, err := e.networks(ctx, numbered(routes))
	if err == nil && len(networkCommands(numbered(routes), networks)) > 0 {
		return "other clients may connect", nil
	}
	return "", err
}
