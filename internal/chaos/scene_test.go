package chaos_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"dokku-expose/hooks"
	"dokku-expose/internal/load"
	"dokku-expose/internal/need"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/rig/rigtest"
	"dokku-expose/internal/wait"
)

const (
	// private is the port that the apps listen on.
	private = 5025
	// linger is how long an app goes on with its connections after SIGTERM.
	linger = 500 * time.Millisecond
	// patience bounds the wait for what must come.
	patience = 2 * time.Minute
	// clients wait for longer than a fault lasts, in which Docker may need its time on a busy machine, and hold is longer still.
	clients, hold = 4 * patience, 6 * patience
)

// scene is a host with two apps, mail in three containers and chat in one, whose services a supervisor keeps running.
type scene struct {
	*rig.Host
	t      *testing.T // the fault's
	engine string
	apps   []*app
	docker *dockerd // nil where it is not the scene's own
	out    *wait.Buffer
}

// app is one of a scene's, whose versions are named after it.
type app struct {
	name    string
	port    uint16
	version int
	// clients are those of the fault that is being made.
	clients atomic.Pointer[load.Load]
}

// load is nil before the first fault.
func (a *app) load() *load.Load { return a.clients.Load() }

func (a *app) source(morePorts ...string) rig.Source {
	ports := append([]string{fmt.Sprintf("%d:%d", a.port, private)}, morePorts...)
	return rig.Source{
		Version: fmt.Sprintf("%s-%d", a.name, a.version), Listen: []uint16{private},
		Env:   map[string]string{"LINGER": linger.String()},
		Files: map[string]string{"PORTS": strings.Join(ports, "\n") + "\n"},
	}
}

// newScene makes a scene that lasts as long as t.
func newScene(t *testing.T, engine string, dockerd bool) *scene {
	t.Helper()
	s := &scene{t: t, engine: engine, out: new(wait.Buffer)}
	if engine == "haproxy" {
		need.HAProxy(t)
	}
	if dockerd {
		s.docker = newDockerd(t)
	}
	s.Host = rigtest.New(t, func(o *rig.Options) {
		if dockerd {
			o.DockerHost = s.docker.host()
		}
		o.Triggers, o.Subcommands = hooks.Triggers(), hooks.Subcommands()
		o.Settings = map[string]string{"engine": engine, "hold": hold.String()}
		o.Supervise, o.HAProxy = true, false
		o.Out = s.out
		o.Stopping = func(_, container string) {
			for _, a := range s.apps {
				if l := a.load(); l != nil {
					l.Retired(container, linger)
				}
			}
		}
	})
	s.smallDisk(t)
	s.boot()
	s.must(s.CreateApp("mail"))
	s.must(s.Scale("mail", "web", 3))
	for _, name := range []string{"mail", "chat"} {
		port, err := s.FreePort()
		s.must(err)
		a := &app{name: name, port: port}
		s.apps = append(s.apps, a)
		s.push(a)
	}
	s.await("the daemon watches Docker", func() bool { return strings.Contains(s.daemonLog(), "watching docker") })
	return s
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.evidence())
	}
}

// await waits until what must come is so.
func (s *scene) await(what string, is func() bool) {
	s.t.Helper()
	over := time.After(patience)
	for !is() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-over:
			s.t.Fatalf("%s: not after %s\n%s", what, patience, s.evidence())
		}
	}
}

func (s *scene) mail() *app { return s.apps[0] }
func (s *scene) chat() *app { return s.apps[1] }

// push deploys the next version of an app, and tells its load.
func (s *scene) push(a *app, opts ...rig.Option) {
	s.t.Helper()
	a.version++
	s.must(s.Push(a.name, a.source(), append(opts, switched(a))...))
}

// switched tells the load of an app that its version is current, when post-deploy has returned.
func switched(a *app) rig.Option {
	version := fmt.Sprintf("%s-%d", a.name, a.version)
	return rig.After(func(c rig.Call, r rig.Result) {
		if l := a.load(); l != nil && c.Name == "post-deploy" && r.Code == 0 {
			l.Mark(version)
		}
	})
}

// startLoad has clients connect to all apps until their loads are stopped, or the fault's test ends.
func (s *scene) startLoad() {
	s.t.Helper()
	for _, a := range s.apps {
		l, err := load.Start(s.t.Context(), load.Config{
			Addr: loopback(a.port), Remote: rigtest.ClientHost(s.t), Openers: 4, Pause: 5 * time.Millisecond, Holders: 6, Timeout: clients,
		})
		s.must(err)
		s.t.Cleanup(func() { l.Stop() })
		a.clients.Store(l)
	}
	s.seen(settled)
	for _, a := range s.apps {
		a.load().Phase("fault")
	}
}

// seen waits until clients of each app have had n more answers.
func (s *scene) seen(n int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for _, a := range s.apps {
		s.must(a.load().Await(ctx, n))
	}
}

// current are the ids of an app's containers.
func (s *scene) current(a *app) []string {
	s.t.Helper()
	current, err := s.Containers(a.name)
	s.must(err)
	var ids []string
	for _, id := range current {
		ids = append(ids, id)
	}
	return ids
}

// address is the container's in its network.
func (s *scene) address(id string) netip.Addr {
	s.t.Helper()
	info := s.inspect(id)
	for _, network := range info.NetworkSettings.Networks {
		if ip, err := netip.ParseAddr(network.IPAddress); err == nil {
			return ip
		}
	}
	return netip.Addr{}
}

func (s *scene) inspect(id string) container.InspectResponse {
	s.t.Helper()
	info, err := s.Docker.ContainerInspect(s.t.Context(), id)
	s.must(err)
	return info
}

// dies tells the loads that containers are killed now; the function that it returns, that they are dead.
func (s *scene) dies(ids ...string) (dead func()) {
	var all []func()
	for _, id := range ids {
		for _, a := range s.apps {
			all = append(all, a.load().Dies(id))
		}
	}
	return func() {
		for _, f := range all {
			f()
		}
	}
}

func (s *scene) daemonLog() string {
	text, _ := os.ReadFile(s.DaemonLog())
	return string(text)
}

// evidence is the end of what Dokku and the services have said.
func (s *scene) evidence() string {
	haproxy, _ := os.ReadFile(s.HAProxyLog())
	return fmt.Sprintf("--- Dokku:\n%s--- daemon:\n%s--- HAProxy:\n%s", lastLines(s.out.String()), lastLines(s.daemonLog()), lastLines(string(haproxy)))
}

// lastLines are the last lines of a text.
func lastLines(text string) string {
	const most = 40
	lines := slices.Collect(strings.Lines(text))
	return strings.Join(lines[max(0, len(lines)-most):], "")
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}
