package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"

	"dokku-expose/bench/measure"
	"dokku-expose/deploy"
)

// route is the one that both of the project's engines are measured with.
func route(s site) deploy.Route {
	key := deploy.KeyAt(s.listen)
	if s.mode == overUDP {
		key.Proto = deploy.UDP
	}
	r := measure.Route("bench", key, s.origin)
	if s.cert != nil {
		r.Options.TLS = deploy.TerminateTLS
		r.Certificate = deploy.Certificate{Chain: s.cert.Chain, Key: s.cert.Key, ID: "bench"}
	}
	return r
}

func haproxyAsConfigured(ctx context.Context, s site) (*exec.Cmd, error) {
	return measure.HAProxy(ctx, s.dir, route(s))
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
    bind {{.Listen}}{{with .Bundle}} ssl crt {{.}}{{end}}
    server origin {{.Origin}}
`))

// haproxyByHand is HAProxy as one writes its configuration who wants no more of it than to proxy.
func haproxyByHand(global string, options ...string) func(context.Context, site) (*exec.Cmd, error) {
	return func(_ context.Context, s site) (*exec.Cmd, error) {
		binary, err := measure.Find("haproxy", "haproxy")
		if err != nil {
			return nil, err
		}
		bundle := ""
		if s.cert != nil {
			if bundle, err = s.bundle(); err != nil {
				return nil, err
			}
		}
		path := filepath.Join(s.dir, "haproxy.cfg")
		err = writeTemplate(path, byHand, map[string]any{"Global": global, "Options": options, "Listen": s.listen, "Origin": s.origin, "Bundle": bundle})
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
