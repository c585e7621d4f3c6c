package hooks_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"

	"dokku-expose/deploy"
	"dokku-expose/internal/dockertest"
	"dokku-expose/internal/need"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/wait"
)

// gate is a way to Docker that a test can close, for a host whose apps have a network of their own: the Docker behind it lives on,
// and would give the address of a dead container to another host's, which a Docker that is away does to nobody's.
type gate struct {
	t             *testing.T
	path, network string

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
	// hangs has the gate take connections and let nothing through.
	hangs bool
}

func newGate(t *testing.T) *gate {
	t.Helper()
	dir, err := os.MkdirTemp("", "gate")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, path: filepath.Join(dir, "docker.sock"), network: dockertest.Network(t, network.CreateOptions{})}
	t.Cleanup(func() {
		g.close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	g.open()
	return g
}

// start is start of a host whose plugin uses the gate.
func (g *gate) start(change ...func(*rig.Options)) *host {
	g.t.Helper()
	h := start(g.t, append(change, func(o *rig.Options) { o.Env = append(o.Env, "DOCKER_HOST=unix://"+g.path) })...)
	h.must(h.SetProperty("network", "--global", "initial-network", g.network))
	return h
}

func (g *gate) open() {
	g.t.Helper()
	listener, err := net.Listen("unix", g.path)
	if err != nil {
		g.t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listener = listener
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			g.mu.Lock()
			hangs := g.hangs
			if hangs {
				g.conns = append(g.conns, conn)
			}
			g.mu.Unlock()
			if !hangs {
				go g.pass(conn)
			}
		}
	}()
}

func (g *gate) pass(conn net.Conn) {
	defer conn.Close()
	docker, err := net.Dial("unix", "/var/run/docker.sock")
	if err != nil {
		return
	}
	defer docker.Close()
	g.mu.Lock()
	g.conns = append(g.conns, conn)
	g.mu.Unlock()
	go func() {
		_, _ = io.Copy(docker, conn)
		_ = docker.Close()
	}()
	_, _ = io.Copy(conn, docker)
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.listener.Close()
	for _, conn := range g.conns {
		_ = conn.Close()
	}
	g.conns = nil
}

// hang ends what goes through the gate, and has what comes next wait for an answer, as systemd's socket does while Docker restarts.
func (g *gate) hang() {
	g.t.Helper()
	g.close()
	g.mu.Lock()
	g.hangs = true
	g.mu.Unlock()
	g.open()
}

// answer is the end of hang.
func (g *gate) answer() {
	g.t.Helper()
	g.close()
	g.mu.Lock()
	g.hangs = false
	g.mu.Unlock()
	g.open()
}

// While Docker can't be asked, what goes on accepting goes on serving, and a container that is gone is taken out of service: its
// address is another app's in a moment.
func TestDaemonWithoutDocker(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		lose func(*gate)
	}{{"gone", (*gate).close}, {"hanging", (*gate).hang}} {
		t.Run(test.name, func(t *testing.T) {
			forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) { testWithoutDocker(t, engine, test.lose) })
		})
	}
}

func testWithoutDocker(t *testing.T, engine func(*rig.Options), lose func(*gate)) {
	g := newGate(t)
	h := g.start(engine, settings("hold", wait.Patience.String()))
	mailPort, chatPort, newsPort := h.port(), h.port(), h.port()
	h.push("mail", source("mail-1", lead(mailPort, private)))
	// Nobody may ask these, and the same goes for them.
	h.push("chat", source("chat-1", lead(chatPort, private)+" check=off"))
	h.push("news", source("news-1", lead(newsPort, private)+" check=off"))
	h.watched()
	held, err := h.dial(newsPort)
	h.must(err)
	l := h.load(mailPort, 2, 0)
	h.seen(l, 10)

	lose(g)
	mail, chat := h.current("mail", "web.1"), h.current("chat", "web.1")
	h.kill(mail, chat)
	h.held("mail", mailPort)
	h.held("chat", chatPort)
	h.startAgain(chat, mail)
	h.answers(newsPort, "news-1")
	h.must(held.echo())

	g.answer()
	h.answers(mailPort, "mail-1")
	h.answers(chatPort, "chat-1")
	h.seen(l, 10)
	h.onlyMailAnswered(l)
}

// A daemon that starts while Docker can't be asked knows nobody that it could vouch for, and takes nobody out of service that
// accepts: with one server of one app gone, all others go on.
func TestDaemonStartedWithoutDocker(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	h := g.start(settings("hold", wait.Patience.String()))
	mailPort, newsPort := h.port(), h.port()
	h.push("mail", source("mail-1", lead(mailPort, private)))
	h.push("news", source("news-1", lead(newsPort, private)))
	g.hang()
	h.must(h.StopDaemon())
	h.must(h.StartDaemon())
	mail := h.current("mail", "web.1")
	h.kill(mail)
	h.held("mail", mailPort)
	h.answers(newsPort, "news-1")
	g.answer()
	h.startAgain(mail)
	h.answers(mailPort, "mail-1")
	h.expose(0, "check")
}

// While Docker is away and the daemon is delayed, an engine is on its own with a server that it has found down: it connects nobody to
// whatever container accepts at that address next, neither those who wait nor those who come. The daemon then takes it out of
// service without asking it.
func TestDaemonDelayedWithoutDocker(t *testing.T) { forEachEngine(t, testDaemonDelayed) }

func testDaemonDelayed(t *testing.T, engine func(*rig.Options)) {
	g := newGate(t)
	h := g.start(engine, settings("hold", "3s", "health-check", "200ms"))
	mailPort, chatPort := h.port(), h.port()
	h.push("mail", source("mail-1", lead(mailPort, private)))
	h.push("chat", source("chat-1", lead(chatPort, private)))
	h.watched()
	mail, chat := h.current("mail", "web.1"), h.current("chat", "web.1")
	h.kill(chat)
	h.held("chat", chatPort)
	l := h.load(mailPort, 8, 0)
	h.seen(l, 50)

	g.close()
	await(t, "the daemon is without Docker", func() bool { return strings.Contains(h.daemonLog(), "msg=docker") })
	// The daemon waits, as it does for a hook.
	lock, err := deploy.Acquire(t.Context(), filepath.Join(h.Lib, "data", rig.Plugin, "lock"))
	h.must(err)
	h.kill(mail)
	await(t, "the engine finds mail down", func() bool {
		servers := h.stats("mail").Routes[0].Servers
		return len(servers) == 1 && !servers[0].Up
	})
	h.startAgain(chat) // where mail was
	for range 2 {
		c, err := net.Dial("tcp", loopback(mailPort).String())
		h.must(err)
		h.must(c.SetDeadline(time.Now().Add(wait.Patience)))
		if said, err := io.ReadAll(c); len(said) > 0 {
			t.Errorf("a connection to mail was told %q (%v)", said, err)
		}
		_ = c.Close()
	}
	h.must(lock.Release())
	h.held("mail", mailPort)
	g.open()
	h.answers(chatPort, "chat-1")
	h.startAgain(mail)
	h.seen(l, 10)
	h.answers(mailPort, "mail-1")
	h.onlyMailAnswered(l)
}

// A container that refuses connections for a while, and is the same when it accepts again, serves again with nobody's help.
func TestContainerThatAcceptsAgain(t *testing.T) { forEachEngine(t, testAcceptsAgain) }

func testAcceptsAgain(t *testing.T, engine func(*rig.Options)) {
	need.Root(t)
	need.Program(t, "nsenter", "util-linux")
	need.Program(t, "ip", "iproute2")
	h := start(t, engine, settings("hold", wait.Patience.String()))
	port := h.port()
	h.push("mail", source("v1", lead(port, private)))
	h.watched()
	info, err := h.Docker.ContainerInspect(t.Context(), h.current("mail", "web.1"))
	h.must(err)
	// Docker knows nothing of it.
	link := func(state string) {
		t.Helper()
		out, err := exec.Command("nsenter", "-t", fmt.Sprint(info.State.Pid), "-n", "ip", "link", "set", "eth0", state).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for range 2 {
		link("down")
		await(t, "the port is held", func() bool { return strings.Contains(h.expose(0, "list", "mail").Stdout, "held") })
		link("up")
		h.answers(port, "v1")
		await(t, "the port is served", func() bool { return strings.Contains(h.expose(0, "list", "mail").Stdout, "serving") })
	}
}
