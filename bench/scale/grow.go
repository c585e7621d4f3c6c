package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dokku-expose/bench/measure"
	"dokku-expose/internal/rig"
)

const (
	// idleHooks is how often a hook is called that has nothing to do.
	idleHooks = 20
	// settle is how long services are left alone before their memory is measured.
	settle = time.Second
)

// figures are what was measured of an engine with one number of apps, by row.
type figures map[string]float64

// grow measures all engines with all numbers of apps, and returns the report.
func grow(ctx context.Context, o options) (_ string, err error) {
	machine, err := measure.Machine()
	if err != nil {
		return "", err
	}
	if _, err := measure.RaiseFileLimit(0); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return "", err
	}
	docker, host, err := startDocker(dir)
	if err != nil {
		return "", err
	}
	defer docker.server.Close()
	if err := os.Setenv("DOCKER_HOST", host); err != nil {
		return "", err
	}
	var b bridge
	if err := b.setUp(); err != nil {
		return "", err
	}
	stopApps, err := serveApps()
	if err != nil {
		return "", err
	}
	defer stopApps()

	found := make(map[string][]figures)
	for _, size := range o.sizes {
		if err := b.grow(size); err != nil {
			return "", err
		}
		for _, e := range o.engines {
			fmt.Fprintf(o.progress, "%s, %d apps\n", e.name, size)
			f, err := take(ctx, o, e, docker, size)
			if err != nil {
				return "", fmt.Errorf("%s, %d apps: %w", e.name, size, err)
			}
			found[e.name] = append(found[e.name], f)
		}
	}
	return report(o, machine, found), nil
}

// take measures one engine with one number of apps.
func take(ctx context.Context, o options, e engine, docker *fakeDocker, size int) (_ figures, err error) {
	docker.clear()
	s, err := newSite(ctx, o.binary, e, docker)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	f := make(figures)

	// Without an app first: what memory is there without any route.
	for _, start := range e.services {
		if err := start(s.Host); err != nil {
			return nil, err
		}
	}
	time.Sleep(settle)
	emptyProxy, emptyDaemon, err := s.usage()
	if err != nil {
		return nil, err
	}
	if err := stop(s.Host); err != nil {
		return nil, err
	}
	// HAProxy is to start as it does for the first time, with what is true then.
	for _, name := range []string{"haproxy.cfg", "haproxy.json"} {
		if err := os.RemoveAll(filepath.Join(s.Lib, "data", rig.Plugin, "haproxy", name)); err != nil {
			return nil, err
		}
	}

	for range size {
		if err := s.create(); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	for i, start := range e.services {
		if err := start(s.Host); err != nil {
			return nil, err
		}
		if i == 0 {
			if err := s.awaitPorts(ctx); err != nil {
				return nil, err
			}
			f[rowStart] = time.Since(began).Seconds() * 1e3
		}
	}
	time.Sleep(settle)
	proxy, daemon, err := s.usage()
	if err != nil {
		return nil, err
	}
	routes := float64(size * len(privatePorts))
	f[rowProxyMemory] = float64(proxy.Memory-emptyProxy.Memory) / routes
	f[rowDaemonMemory] = float64(daemon.Memory-emptyDaemon.Memory) / routes
	f[rowProcessesBefore] = float64(proxy.Processes)

	if err := s.idleHooks(f); err != nil {
		return nil, err
	}
	if err := s.deployAll(ctx, o.deploys, f); err != nil {
		return nil, err
	}
	proxy, _, err = s.usage()
	f[rowProcessesAfter] = float64(proxy.Processes)
	return f, err
}

// usage is that of what serves the ports, and of the daemon where that is something else.
func (s *site) usage() (proxy, daemon measure.Usage, err error) {
	daemon, err = measure.GroupUsage(s.DaemonGroup())
	if group := s.HAProxyGroup(); err == nil && group != 0 {
		proxy, err = measure.GroupUsage(group)
		return proxy, daemon, err
	}
	return daemon, measure.Usage{}, err
}

// idleHooks calls a hook for an app that has nothing to do with the plugin.
func (s *site) idleHooks(f figures) error {
	var times []float64
	if err := os.Mkdir(filepath.Join(s.Root, "other"), 0o755); err != nil {
		return err
	}
	for range idleHooks {
		took, err := s.hook("post-deploy", "other", "", "", "latest")
		if err != nil {
			return err
		}
		times = append(times, took.Seconds()*1e3)
	}
	f[rowIdleHook] = measure.Median(times)
	return nil
}

// deployAll deploys so many times, one app after the other, each with a connection that stays on the container before.
func (s *site) deployAll(ctx context.Context, deploys int, f figures) error {
	var (
		times, lists, calls []float64
		held                []net.Conn
	)
	defer func() {
		for _, conn := range held {
			_ = conn.Close()
		}
	}()
	for n := range deploys {
		if err := ctx.Err(); err != nil {
			return err
		}
		i := n % len(s.deploys)
		conn, err := s.connect(i, 0)
		if err != nil {
			return err
		}
		held = append(held, conn)
		d, err := s.deploy(i)
		if err != nil {
			return err
		}
		times, lists, calls = append(times, d.took.Seconds()*1e3), append(lists, float64(d.lists)), append(calls, float64(d.calls))
	}
	f[rowSwitch], f[rowSwitchSlow] = measure.Median(times), slices.Max(times)
	f[rowLists], f[rowCalls] = measure.Median(lists), measure.Median(calls)
	for _, conn := range held {
		if !alive(conn) {
			f[rowBroken]++
		}
	}
	return nil
}
