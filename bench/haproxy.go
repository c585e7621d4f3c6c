package main

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"

	"dokku-expose/bench/measure"
	"dokku-expose/deploy"
)

// route is the one that both of the project's engines are measured with.
func route(listen, origin netip.AddrPort) deploy.Route {
	return measure.Route("bench", deploy.FrontendAt(listen), origin)
}

func haproxyAsConfigured(ctx context.Context, dir string, listen, origin netip.AddrPort) (*exec.Cmd, error) {
	return measure.HAProxy(ctx, dir, route(listen, origin))
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
		binary, err := measure.Find("haproxy", "haproxy")
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
