package hooks_test

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/container"

	"dokku-expose/internal/rig"
)

// daemonLog is what the daemon has said.
func (h *host) daemonLog() string {
	h.t.Helper()
	text, err := os.ReadFile(h.DaemonLog())
	h.must(err)
	return string(text)
}

// withDaemon has the daemon run beside HAProxy.
func withDaemon(o *rig.Options) { o.Daemon = true }

// watched waits until the daemon hears of changes.
func (h *host) watched() {
	h.t.Helper()
	await(h.t, "the daemon watches Docker", func() bool { return strings.Contains(h.daemonLog(), "watching Docker") })
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Two containers that come back in the other order have swapped addresses: each app gets its own connections nevertheless.
func TestDaemonFollowsContainersThatMove(t *testing.T) {
	forEachEngine(t, testContainersThatMove)
}

func testContainersThatMove(t *testing.T, engine func(*rig.Options)) {
	t.Parallel()
	h := start(t, engine, withDaemon)
	mailPort, chatPort := h.port(), h.port()
	h.push("mail", source("mail-1", lead(mailPort, private)))
	h.push("chat", source("chat-1", lead(chatPort, private)))
	mail, chat := h.current("mail", "web.1"), h.current("chat", "web.1")
	h.watched()
	l := h.load(mailPort, 2, 0)
	h.seen(l, 10)

	for _, id := range []string{mail, chat} {
		h.must(h.Docker.ContainerKill(t.Context(), id, "KILL"))
	}
	for _, id := range []string{chat, mail} {
		h.must(h.Docker.ContainerStart(t.Context(), id, container.StartOptions{}))
	}
	// Held, or let in: the next connections are answered as soon as the ports follow.
	h.answers(mailPort, "mail-1")
	h.answers(chatPort, "chat-1")
	h.seen(l, 10)
	for _, v := range l.Stop().Versions {
		if !strings.HasPrefix(v.Name, "mail") {
			t.Errorf("%d connections to mail were answered by %s", v.Answers, v.Name)
		}
	}
}

func TestDaemonCutsOldConnectionsWhenTheirTimeIsOver(t *testing.T) {
	forEachEngine(t, testOldConnectionsAreCut)
}

func testOldConnectionsAreCut(t *testing.T, engine func(*rig.Options)) {
	t.Parallel()
	h := start(t, engine, withDaemon)
	port := h.port()
	h.push("mail", source("v1", lead(port, private)))
	h.expose(0, "set", "mail", "old-connections", "1s")
	h.watched()
	c, err := h.dial(port)
	h.must(err)
	h.must(c.echo())
	// The old container would keep its connections for much longer.
	src := source("v2", lead(port, private))
	src.Env["LINGER"] = "10m"
	h.push("mail", src)
	c2, err := h.dial(port)
	h.must(err)
	h.push("mail", source("v3", lead(port, private)))
	if line, err := c2.lines.ReadString('\n'); err == nil || line != "" {
		t.Errorf("an old connection says %q, want it to be cut", line)
	}
}
