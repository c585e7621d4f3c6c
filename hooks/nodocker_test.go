package hooks_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/network"

	"dokku-expose/deploy"
	"dokku-expose/internal/dockertest"
	"dokku-expose/internal/rig"
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
	t.Parallel()
	g := newGate(t)
	h := g.start(engine, settings("hold", patience.String()))
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
	h := g.start(settings("hold", patience.String()))
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

// A server that HAProxy has found down itself, since clients came before the daemon looked, is taken out of service as well: else
// HAProxy's own check would bring it up again at whatever container accepts there next.
func TestDaemonWithoutDockerTakesOutWhatIsDown(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	h := g.start(settings("hold", patience.String()))
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
	await(t, "HAProxy finds mail down", func() bool {
		for line := range strings.Lines(h.haproxySays("show stat -1 4 -1")) {
			if strings.HasPrefix(line, "mail") && strings.Contains(line, ",DOWN") {
				return true
			}
		}
		return false
	})
	h.must(lock.Release())
	h.held("mail", mailPort)
	h.startAgain(chat) // where mail was
	g.open()
	h.answers(chatPort, "chat-1")
	h.startAgain(mail)
	h.answers(mailPort, "mail-1")
	h.onlyMailAnswered(l)
}
