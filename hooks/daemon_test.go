package hooks_test

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/google/renameio/v2"

	"dokku-expose/internal/load"
	"dokku-expose/internal/rig"
)

// daemonLog is what the daemon has said.
func (h *host) daemonLog() string {
	h.t.Helper()
	text, err := os.ReadFile(h.DaemonLog())
	h.must(err)
	return string(text)
}

// watched waits until the daemon hears of changes.
func (h *host) watched() {
	h.t.Helper()
	await(h.t, "the daemon watches Docker", func() bool { return strings.Contains(h.daemonLog(), "watching docker") })
}

// held waits until the daemon has taken the last server of a public port out of service.
func (h *host) held(app string, port uint16) {
	h.t.Helper()
	hold := fmt.Sprintf("msg=hold by=daemon app=%s public=%d", app, port)
	await(h.t, hold, func() bool { return strings.Contains(h.daemonLog(), hold) })
}

// onlyMailAnswered ends the clients of mail, none of which may have been another app's.
func (h *host) onlyMailAnswered(l *load.Load) {
	h.t.Helper()
	for _, v := range l.Stop().Versions {
		if !strings.HasPrefix(v.Name, "mail") {
			h.t.Errorf("%d connections to mail were answered by %s", v.Answers, v.Name)
		}
	}
}

// kill ends containers as a crash does, one after the other.
func (h *host) kill(ids ...string) {
	h.t.Helper()
	for _, id := range ids {
		h.must(h.Docker.ContainerKill(h.t.Context(), id, "KILL"))
	}
}

// startAgain starts containers that have ended, which get addresses in this order.
func (h *host) startAgain(ids ...string) {
	h.t.Helper()
	for _, id := range ids {
		h.must(h.Docker.ContainerStart(h.t.Context(), id, container.StartOptions{}))
	}
}

// Two containers that come back in the other order have swapped addresses: each app gets its own connections nevertheless.
func TestDaemonFollowsContainersThatMove(t *testing.T) {
	forEachEngine(t, testContainersThatMove)
}

func testContainersThatMove(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	mailPort, chatPort := h.port(), h.port()
	h.push("mail", source("mail-1", lead(mailPort, private)))
	h.push("chat", source("chat-1", lead(chatPort, private)))
	mail, chat := h.current("mail", "web.1"), h.current("chat", "web.1")
	h.watched()
	l := h.load(mailPort, 2, 0)
	h.seen(l, 10)

	h.kill(mail, chat)
	h.startAgain(chat, mail)
	// Held, or let in: the next connections are answered as soon as the ports follow.
	h.answers(mailPort, "mail-1")
	h.answers(chatPort, "chat-1")
	h.seen(l, 10)
	h.onlyMailAnswered(l)
}

func TestDaemonCutsOldConnectionsWhenTheirTimeIsOver(t *testing.T) {
	forEachEngine(t, testOldConnectionsAreCut)
}

func testOldConnectionsAreCut(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	port := h.port()
	h.push("mail", source("v1", lead(port, private)))
	h.expose(0, "set", "mail", "old-connections", "1s")
	h.watched()
	c, err := h.dial(port)
	h.must(err)
	h.must(c.echo())
	// The old container would keep its connections for much longer.
	h.push("mail", lingering("v2", lead(port, private)))
	c2, err := h.dial(port)
	h.must(err)
	h.push("mail", source("v3", lead(port, private)))
	if line, err := c2.lines.ReadString('\n'); err == nil || line != "" {
		t.Errorf("an old connection says %q, want it to be cut", line)
	}
}

func TestLogsTellWhatHappened(t *testing.T) {
	t.Parallel()
	h := start(t)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	h.push("mail", source("v2", lead(public, private)))
	h.push("chat", source("v1", lead(h.port(), private)))
	h.refused("pre-build", "thief", source("v1", lead(public, private)))
	h.refused("pre-build", "typo", source("v1", "nonsense"))
	h.expose(1, "add", "mail", "0:0")
	id := h.current("mail", "web.1")
	h.kill(id)
	await(t, "mail is held", func() bool { return strings.Contains(h.expose(0, "logs", "mail").Stdout, "msg=hold by=daemon") })
	h.startAgain(id)
	h.answers(public, "v2")

	all := h.expose(0, "logs").Stdout
	h.wants(all, "msg=switch by=post-deploy app=mail", "app=chat", "msg=reload",
		"msg=refuse by=pre-build app=thief", "belongs to the app mail", "msg=heal by=daemon app=mail",
		"msg=refuse by=pre-build app=typo", "PORTS:1", "msg=refuse by=add app=mail")
	if mail := h.expose(0, "logs", "mail").Stdout; strings.Contains(mail, "app=chat") || strings.Contains(mail, "app=thief") {
		t.Errorf("the log of mail has lines of others:\n%s", mail)
	}
	if last := h.expose(0, "logs", "mail", "--num", "1").Stdout; strings.Count(last, "\n") != 1 || !strings.Contains(last, "by=daemon app=mail") {
		t.Errorf("the last line is %q", last)
	}
	h.expose(20, "logs", "nobody")
	h.wants(h.expose(1, "logs", "--num", "-1").Stderr, "--num", "usage")
}

// SIGHUP has the daemon read everything again, and never ends it, however young it is.
func TestHangUp(t *testing.T) {
	t.Parallel()
	h := start(t, builtin)
	first := h.port()
	h.push("mail", source("v1", lead(first, private)))
	h.watched()
	byHand := func() {
		t.Helper()
		public := h.port()
		text := fmt.Sprintf("mappings = [\"%d:%d\"]\n", public, private)
		dir := filepath.Join(h.Lib, "config", rig.Plugin, "apps")
		h.must(os.MkdirAll(dir, 0o755))
		h.must(renameio.WriteFile(filepath.Join(dir, "mail.toml"), []byte(text), 0o644))
		h.must(syscall.Kill(h.DaemonGroup(), syscall.SIGHUP))
		await(t, "the port is open", func() bool { _, err := h.dial(public); return err == nil })
	}
	byHand()

	// As the service's script does it: the time before a program can do anything is not the program's.
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	l := h.load(first, 2, 2)
	for range 3 {
		stop := make(chan struct{})
		var signals sync.WaitGroup
		signals.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := h.SignalDaemon(syscall.SIGHUP); err != nil {
						t.Error(err)
					}
				}
			}
		})
		h.must(h.RestartDaemon())
		h.seen(l, 10)
		close(stop)
		signals.Wait()
		if h.DaemonGroup() == 0 {
			t.Fatalf("the daemon has ended: %s", h.daemonLog())
		}
	}
	h.judge(l)
	byHand()
}

// A port that somebody else has when the daemon starts is opened soon after it is free.
func TestDaemonTriesPortsAgain(t *testing.T) {
	t.Parallel()
	h := start(t, builtin)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	h.must(h.StopDaemon())
	listener, err := net.Listen("tcp", fmt.Sprint(":", public))
	h.must(err)
	h.must(h.StartDaemon())
	const refused = "msg=\"can't listen\""
	await(t, "the port is refused", func() bool { return strings.Contains(h.daemonLog(), refused) })
	shown := h.stats()
	await(t, "it is tried more often than a daemon looks when it starts", func() bool { return h.reconciles(shown) >= 4 })
	h.must(listener.Close())
	await(t, "the port is open", func() bool { _, err := h.dial(public); return err == nil })
	if n := strings.Count(h.daemonLog(), refused); n != 1 {
		t.Errorf("it was told %d times that the port can't be had", n)
	}
}

// reconciles is how often the daemon has made everything what it should be.
func (h *host) reconciles(shown shown) int {
	h.t.Helper()
	_, metrics := h.page(shown, shown.Password, "/metrics")
	_, count, _ := strings.Cut(metrics, "\ndokku_expose_reconcile_duration_seconds_count ")
	text, _, _ := strings.Cut(count, "\n")
	n, err := strconv.Atoi(text)
	h.must(err)
	return n
}

// events counts the events of Docker's from now on.
func (h *host) events() *atomic.Int32 {
	h.t.Helper()
	var n atomic.Int32
	stream, errs := h.Docker.Events(h.t.Context(), events.ListOptions{})
	go func() {
		for {
			select {
			case <-stream:
				n.Add(1)
			case <-errs:
				return
			}
		}
	}()
	return &n
}

// A limit for old connections gives the daemon nothing to do while there are none.
func TestDaemonRestsWhileThereAreNoOldConnections(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine, settings("old-connections", "1s"))
		public := h.port()
		h.push("mail", source("v1", lead(public, private)))
		c, err := h.dial(public)
		h.must(err)
		shown := h.awaitPage("")
		// Containers of other tests are a reason to look, each at most once an event.
		const long = 5 * time.Second
		moves, since, count := h.events(), time.Now(), h.reconciles(shown)
		var before int32
		await(t, "the daemon rests", func() bool {
			if time.Since(since) < long {
				return false
			}
			n, seen := h.reconciles(shown), moves.Load()
			rested := n-count <= int(seen-before)
			since, count, before = time.Now(), n, seen
			return rested
		})
		h.must(c.echo())
	})
}

func TestDrainWaitInVain(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.push("mail", source("v1", lead(h.port(), private)))
	const remedy = "dokku checks:set mail wait-to-retire 600"
	h.wants(h.expose(0, "set", "mail", "drain-wait", "10m").Stderr, remedy)
	h.wants(h.expose(1, "check").Stderr, remedy)
	h.must(h.SetWaitToRetire("mail", 600))
	h.expose(0, "check")
}

// Connections on an old container end with it, whatever anybody does. They are counted.
func TestConnectionsThatEndWithTheirContainerAreLogged(t *testing.T) {
	forEachEngine(t, testConnectionsThatEnd)
}

func testConnectionsThatEnd(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	port := h.port()
	h.push("mail", lingering("v1", lead(port, private)))
	h.watched()
	old := h.current("mail", "web.1")
	for range 3 {
		_, err := h.dial(port)
		h.must(err)
	}
	h.push("mail", source("v2", lead(port, private)))
	drain := fmt.Sprintf("msg=drain by=daemon app=mail container=web.1@%.12s connections=3", old)
	await(t, drain, func() bool { return strings.Contains(h.expose(0, "logs", "mail").Stdout, drain) })
	if got := h.expose(0, "report", "mail", "--expose-draining-connections").Stdout; got != "3\n" {
		t.Errorf("%q connections drain, want 3", got)
	}
	// As Dokku does when wait-to-retire is over.
	h.kill(old)
	ended := fmt.Sprintf("msg=ended by=daemon app=mail container=web.1@%.12s connections_at_most=3", old)
	await(t, ended, func() bool { return strings.Contains(h.expose(0, "logs", "mail").Stdout, ended) })
	if log := h.expose(0, "logs", "mail").Stdout; strings.Contains(log, "msg=cut") {
		t.Errorf("nothing was cut by the plugin, and the log says so:\n%s", log)
	}
}
