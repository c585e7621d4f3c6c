package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/internal/freeport"
	"dokku-expose/internal/rig"
	"dokku-expose/proxy/control"
)

// processes shows the built-in engine where there is no Docker: a version of the app is a process of this host's, which stands
// for its container and the port that Docker would publish for it.
type processes struct {
	demo    *demo
	program string
	public  uint16

	running []*process
	ended   []*process // told to end
	app     deploy.App

	engine *control.Client
	stop   context.CancelFunc
	done   chan error
}

// acceptGrace is the time between the switch and the end of the old version.
const acceptGrace = 300 * time.Millisecond

// process is one version of the app.
type process struct {
	deploy.Endpoint
	command *exec.Cmd
}

func newProcesses(ctx context.Context, d *demo) (stage, error) {
	server, err := rig.BuildApp(ctx, d.dir)
	if err != nil {
		return nil, err
	}
	d.step("Docker does not answer here, so the app's versions are processes; starting the built-in engine")
	p := &processes{demo: d, program: server, done: make(chan error, 1)}
	if p.public, err = freeport.Take(); err != nil {
		return nil, err
	}
	socket := filepath.Join(d.dir, "control.sock")
	p.engine = control.NewClient(control.ClientConfig{Control: socket}, nil)
	ready := make(chan struct{})
	running, stop := context.WithCancel(context.Background())
	p.stop = stop
	go func() {
		p.done <- control.Run(running, control.Options{
			Control: socket, Version: "demo", Log: slog.New(slog.DiscardHandler),
			Reconcile: func(context.Context, *control.Local) error {
				close(ready)
				return nil
			},
		})
	}()
	select {
	case <-ready:
		return p, nil
	case err := <-p.done:
		p.done <- nil
		return p, err
	}
}

func (p *processes) port() uint16 { return p.public }

// push is what the plugin's hooks do of a deploy: PORTS is read, the new process has to accept, then the port is switched.
func (p *processes) push(ctx context.Context, version string, switched func(), stopping func(string)) error {
	entries, err := deploy.ParsePorts("PORTS", p.demo.ports())
	if err != nil {
		return err
	}
	next, err := p.start(ctx, version)
	if err != nil {
		return err
	}
	old := p.running
	p.running = append(p.running, next)
	if err := next.accepts(ctx); err != nil {
		return err
	}
	p.app = deploy.App{
		Name: app, Current: version, Images: map[string][]deploy.Claim{version: deploy.FileClaims(app, "PORTS", entries)},
		Places: []deploy.Place{{Process: next.Process, Dyno: next.Dyno, Container: next.ID}},
		Hold:   10 * time.Second, HealthCheck: 2 * time.Second,
	}
	if err := p.reconcile(ctx); err != nil {
		return err
	}
	switched()
	// As post-deploy does: a connection that was made to the old one a moment ago may wait there to be accepted still.
	time.Sleep(acceptGrace)
	p.running = []*process{next}
	p.ended = append(p.ended, old...)
	for _, o := range old {
		stopping(o.ID)
		if err := o.command.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
	}
	return nil
}

func (p *processes) reconcile(ctx context.Context) error {
	lock, err := deploy.Acquire(ctx, filepath.Join(p.demo.dir, "lock"))
	if err != nil {
		return err
	}
	reconciler := deploy.Reconciler{Host: p, Sources: map[string]deploy.Source{"": p}, Engine: p.engine}
	outcome, err := reconciler.Reconcile(ctx, lock)
	for _, problem := range outcome.Problems {
		err = errors.Join(err, problem)
	}
	return errors.Join(err, lock.Release())
}

// Apps implements [deploy.Host].
func (p *processes) Apps(context.Context) ([]deploy.App, error) { return []deploy.App{p.app}, nil }

// Watch implements [deploy.Source]. The demo knows of each change.
func (p *processes) Watch(ctx context.Context, subscribed func() error, _ func(died string)) error {
	<-ctx.Done()
	return ctx.Err()
}

// Endpoints implements [deploy.Source].
func (p *processes) Endpoints(context.Context) ([]deploy.Endpoint, error) {
	var list []deploy.Endpoint
	for _, r := range p.running {
		list = append(list, r.Endpoint)
	}
	return list, nil
}

// start runs a version of the app.
func (p *processes) start(ctx context.Context, version string) (*process, error) {
	port, err := freeport.Take()
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("%s-process-on-%d", version, port)
	command := exec.Command(p.program, "-bind", "127.0.0.1", "-ports", strconv.Itoa(int(port)), "-version", version, "-id", id, "-linger", linger.String())
	// Ctrl-C is for the demo, which then ends it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return nil, err
	}
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	return &process{command: command, Endpoint: deploy.Endpoint{
		ID: id, App: app, Process: "web", Dyno: "web.1", Image: version, Running: true,
		Published: map[deploy.PrivatePort]netip.AddrPort{{Port: private}: at},
	}}, nil
}

// accepts waits until the process accepts connections.
func (p *process) accepts(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		at := deploy.Address{AddrPort: p.Published[deploy.PrivatePort{Port: private}]}
		err := deploy.Listening(ctx, []deploy.Address{at})[at]
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not accept connections: %w", p.ID, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p *processes) show(ctx context.Context) error {
	p.demo.step("Where the public port leads")
	o, err := p.engine.Observe(ctx)
	if err != nil {
		return err
	}
	for _, r := range o.Routes {
		var servers []string
		for _, addr := range r.Addresses(true) {
			servers = append(servers, addr.String())
		}
		fmt.Fprintf(p.demo.out, "%s of %s -> %s\n", r.Key, r.App, strings.Join(servers, ", "))
	}
	return nil
}

func (p *processes) close() error {
	p.stop()
	err := <-p.done
	for _, r := range append(p.running, p.ended...) {
		// It may have ended by itself.
		_ = r.command.Process.Kill()
		_ = r.command.Wait()
	}
	return err
}
