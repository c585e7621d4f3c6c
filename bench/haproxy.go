package main

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/haproxy"
)

// table is the one that both of the project's engines are measured with, with the settings that an app has by default.
func table(listen, origin netip.AddrPort) deploy.Table {
	return deploy.Table{Routes: []deploy.Route{{
		App: "bench", Process: "web", Listen: deploy.Listen{IP: listen.Addr(), Port: listen.Port()},
		Servers: []deploy.Server{{Container: "origin", Dyno: "web.1", Addr: origin, Proven: true}},
		Hold:    10 * time.Second, HealthCheck: 2 * time.Second,
	}}}
}

func haproxyAsConfigured(ctx context.Context, dir string, listen, origin netip.AddrPort) (*exec.Cmd, error) {
	binary, err := find("haproxy", "haproxy")
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
	if err := engine.Prepare(ctx, table(listen, origin)); err != nil {
		return nil, err
	}
	args := engine.Command()
	return exec.Command(args[0], args[1:]...), nil
}

var byHand = template.Must(template.New("").Parse(`global
    {{.Global}}

defaults
    mode tcp
    timeout connect 5s
    timeout client 24d
    timeout server 24d
{{range .Options}}    {{.}}
{{end}}
listen bench
    bind {{.Listen}}
    server origin {{.Origin}}
`))

// haproxyByHand is HAProxy as one writes its configuration who wants no more of it than to proxy.
func haproxyByHand(global string, options ...string) func(context.Context, string, netip.AddrPort, netip.AddrPort) (*exec.Cmd, error) {
	return func(_ context.Context, dir string, listen, origin netip.AddrPort) (*exec.Cmd, error) {
		binary, err := find("haproxy", "haproxy")
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, "haproxy.cfg")
		err = writeTemplate(path, byHand, map[string]any{"Global": global, "Options": options, "Listen": listen, "Origin": origin})
		return exec.Command(binary, "-W", "-f", path), err
	}
}

func writeTemplate(path string, t *template.Template, values map[string]any) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := t.Execute(file, values); err != nil {
		return err
	}
	return file.Close()
}
