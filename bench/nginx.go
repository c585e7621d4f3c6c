package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"text/template"

	"dokku-expose/bench/measure"
)

// nginxModule is where Debian's package libnginx-mod-stream has it.
const nginxModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

var nginxConfiguration = template.Must(template.New("").Parse(`load_module {{.Module}};
{{- with .User}}
user {{.}};
{{- end}}
daemon off;
pid {{.Dir}}/nginx.pid;
error_log stderr;
worker_processes auto;

events {
    worker_connections {{.Connections}};
}

stream {
    server {
        listen {{.Listen}}{{if eq .Mode "udp"}} udp{{end}}{{with .Cert}} ssl;
        ssl_certificate {{.Chain}};
        ssl_certificate_key {{.Key}}{{end}};
        proxy_pass {{.Origin}};
        proxy_timeout 24h;
    }
}
`))

// nginxStream is nginx as a proxy of TCP or UDP, with its defaults but the limits that would end connections.
func nginxStream(_ context.Context, s site) (*exec.Cmd, error) {
	const packages = "nginx libnginx-mod-stream"
	binary, err := measure.Find("nginx", packages)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(nginxModule); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s %w (Debian: apt-get install %s)", nginxModule, measure.ErrMissing, packages)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, os.NewSyscallError("getrlimit", err)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "root" // of a user who may not be there it would refuse to start
	}
	path := filepath.Join(s.dir, "nginx.conf")
	err = writeTemplate(path, nginxConfiguration, map[string]any{
		"Module": nginxModule, "User": user, "Dir": s.dir, "Connections": limit.Cur, "Mode": s.mode, "Listen": s.listen, "Origin": s.origin, "Cert": s.cert,
	})
	return exec.Command(binary, "-p", s.dir, "-c", path, "-e", "stderr"), err
}
