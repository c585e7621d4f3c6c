package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/docker/docker/client"

	"dokku-expose/hooks"
	"dokku-expose/internal/rig"
)

// dockerAnswers returns why Docker can't be used.
func dockerAnswers(ctx context.Context) error {
	var missing error
	if _, err := exec.LookPath("docker"); err != nil {
		missing = errors.New("the docker program is missing; Debian and Ubuntu: apt-get install docker.io")
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err == nil {
		defer docker.Close()
		_, err = docker.Ping(ctx)
	}
	if err != nil {
		err = fmt.Errorf("docker does not answer, or not to this user: %w; start its service, or dockerd", err)
	}
	return errors.Join(missing, err)
}

// needs says in one go what the machine lacks for HAProxy to be shown.
func needs(docker error) error {
	var errs []error
	if _, err := exec.LookPath("haproxy"); err != nil {
		if _, err := os.Stat("/usr/sbin/haproxy"); err != nil {
			errs = append(errs, errors.New("HAProxy is missing; Debian and Ubuntu: apt-get install haproxy"))
		}
	}
	if err := errors.Join(append(errs, docker)...); err != nil {
		return fmt.Errorf("this machine lacks something (as root, `ENGINE=haproxy make demo` installs and starts it):\n%w", err)
	}
	return nil
}

// containers is a Dokku host in a temporary folder.
type containers struct {
	demo   *demo
	host   *rig.Host
	remote *prefixer // what the host prints
	public uint16

	// Of the push that is under way.
	switched func()
	stopping func(container string)
}

func newContainers(ctx context.Context, d *demo) (stage, error) {
	plugin, err := rig.BuildPlugin(ctx, d.dir)
	if err != nil {
		return nil, err
	}
	server, err := rig.BuildApp(ctx, d.dir)
	if err != nil {
		return nil, err
	}
	d.step("Starting a Dokku host in a temporary folder, with the engine %s", d.engine)
	c := &containers{demo: d, remote: &prefixer{w: d.out}}
	c.host, err = rig.New(ctx, rig.Options{
		Binary: plugin, App: server, Triggers: hooks.Triggers(), Subcommands: hooks.Subcommands(),
		Settings: map[string]string{"engine": d.engine}, HAProxy: d.engine == haproxy, Daemon: true, Out: c.remote,
		After: func(call rig.Call, result rig.Result) {
			if call.Name == "post-deploy" && result.Code == 0 {
				c.switched()
			}
		},
		Stopping: func(_, container string) { c.stopping(container) },
	})
	if err != nil {
		return nil, err
	}
	c.public, err = c.host.FreePort()
	return c, err
}

func (c *containers) port() uint16 { return c.public }

func (c *containers) push(_ context.Context, version string, switched func(), stopping func(string)) error {
	c.remote.prefix, c.switched, c.stopping = "remote: ", switched, stopping
	return c.host.Push(app, rig.Source{
		Version: version,
		Listen:  []uint16{private},
		Files:   map[string]string{"PORTS": c.demo.ports()},
		Env:     map[string]string{"LINGER": linger.String()},
	})
}

func (c *containers) show(context.Context) error {
	c.remote.prefix = ""
	for _, verb := range []string{"list", "stats"} {
		c.demo.step("dokku expose:%s", verb)
		result, err := c.host.Command(verb)
		if err == nil && result.Code != 0 {
			err = fmt.Errorf("dokku expose:%s: exit status %d", verb, result.Code)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *containers) close() error { return c.host.Close() }

// prefixer puts a prefix before each line, as git does with what a remote says. It is used by one goroutine at a time.
type prefixer struct {
	w      io.Writer
	prefix string
	part   []byte // of a line
}

func (p *prefixer) Write(b []byte) (int, error) {
	p.part = append(p.part, b...)
	for {
		line, rest, found := bytes.Cut(p.part, []byte("\n"))
		if !found {
			return len(b), nil
		}
		text := strings.TrimRight(p.prefix+string(line), " ")
		p.part = rest
		if _, err := fmt.Fprintln(p.w, text); err != nil {
			return 0, err
		}
	}
}
