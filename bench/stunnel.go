package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"text/template"

	"dokku-expose/bench/measure"
)

var stunnelConfiguration = template.Must(template.New("").Parse(`foreground = yes
pid =
debug = err
TIMEOUTidle = 86400
[bench]
accept = {{.Listen}}
connect = {{.Origin}}
cert = {{.Cert.Chain}}
key = {{.Cert.Key}}
`))

// stunnel is stunnel with its defaults.
func stunnel(_ context.Context, s site) (*exec.Cmd, error) {
	binary, err := measure.Find("stunnel", "stunnel4")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.dir, "stunnel.conf")
	err = writeTemplate(path, stunnelConfiguration, map[string]any{"Listen": s.listen, "Origin": s.origin, "Cert": s.cert})
	return exec.Command(binary, path), err
}
