package measure

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/haproxy"
	"dokku-expose/proxy"
)

// Route leads from a public address to the one container of an app, with the settings that an app has by default.
func Route(app string, listen deploy.Key, container netip.AddrPort) deploy.Route {
	return deploy.Route{
		App: app, Process: "web", Key: listen,
		Servers: []deploy.Server{{Container: app, Dyno: "web.1", Addr: container, Proven: true}},
		Hold:    10 * time.Second, HealthCheck: 2 * time.Second,
	}
}

// ServeBuiltin is the project's own engine, as its daemon runs it, until ctx ends.
func ServeBuiltin(ctx context.Context, routes ...deploy.Route) error {
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	server, err := proxy.NewServer(slog.New(slog.NewTextHandler(os.Stderr, nil)), nil)
	if err != nil {
		return err
	}
	defer server.Close(ctx)
	if _, err := server.Apply(ctx, deploy.Table{Routes: routes}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// HAProxy is the HAProxy of this host as the project configures it, with its files in dir.
func HAProxy(ctx context.Context, dir string, routes ...deploy.Route) (*exec.Cmd, error) {
	binary, err := Find("haproxy", "haproxy")
	if err != nil {
		return nil, err
	}
	engine := haproxy.New(haproxy.Config{
		Binary:         binary,
		ConfigFile:     filepath.Join(dir, "haproxy.cfg"),
		MasterSocket:   filepath.Join(dir, "master.sock"),
		StatsSocket:    filepath.Join(dir, "stats.sock"),
		WorkerDeadline: 24 * time.Hour,
	})
	if err := engine.Prepare(ctx, deploy.Table{Routes: routes}); err != nil {
		return nil, err
	}
	args := engine.Command()
	return exec.Command(args[0], args[1:]...), nil
}
