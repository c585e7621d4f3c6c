package hooks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/renameio/v2"

	"dokku-expose/internal/rig"
)

// An operator moves all ports from one engine to the other and back. Who is connected stays so.
func TestMoveFromOneEngineToTheOther(t *testing.T) {
	t.Parallel()
	h := start(t)
	first, second := h.port(), h.port()
	h.push("mail", source("v1", lead(first, private), lead(second, private)))
	// It is about old containers, and these are not.
	h.expose(0, "set", "mail", "old-connections", "1s")
	var held []*conn
	hold := func() {
		c, err := h.dial(first)
		h.must(err)
		held = append(held, c)
	}
	hold()
	for _, engine := range []string{"builtin", "haproxy", "builtin"} {
		said := h.expose(0, "set", "--global", "engine", engine)
		h.wants(said.Stdout, "Moving 2 public ports to the engine "+engine, "served by the engine "+engine, "Established connections stay")
		h.answers(first, "v1")
		h.answers(second, "v1")
		for _, c := range held {
			h.must(c.echo())
		}
		hold()
		h.expose(0, "check")
		h.wants(h.expose(0, "list").Stdout, "serving")
		await(t, "the statistics page is there", func() bool {
			result, err := h.Command("stats")
			return err == nil && result.Code == 0
		})
	}
	h.expose(0, "set", "mail", "old-connections", "keep")
	l := h.load(first, 4, 4)
	h.push("mail", source("v2", lead(first, private)), switched(l, "v2"))
	h.seen(l, 10)
	h.judge(l)
	h.closed(second)
}

// An engine that can't serve gets nothing, and the other one keeps everything.
func TestMoveToAnEngineThatCanNotServe(t *testing.T) {
	t.Parallel()
	h := start(t, withoutDaemon)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	c, err := h.dial(public)
	h.must(err)
	worker := h.worker()
	said := h.expose(1, "set", "--global", "engine", "builtin").Stderr
	h.wants(said, "systemctl start dokku-expose", "the engine is still haproxy")
	h.answers(public, "v1")
	h.must(c.echo())
	if now := h.worker(); now != worker {
		t.Errorf("HAProxy was reloaded: its worker was %s and is %s", worker, now)
	}
	h.wants(h.expose(1, "check").Stderr, "ports do not follow containers that restart", "systemctl start dokku-expose")
	h.must(h.StartDaemon())
	h.expose(0, "check")
	h.wants(h.expose(1, "set", "--global", "engine", "nginx").Stderr, "auto, haproxy, builtin")
}

// A HAProxy that is there, or not, when the daemon starts for the first time decides for good.
func TestEngineStaysTheOneThatWasFound(t *testing.T) {
	t.Parallel()
	h := start(t)
	file := filepath.Join(h.Lib, "data", rig.Plugin, "engine")
	await(t, "the daemon writes the engine down", func() bool {
		text, err := os.ReadFile(file)
		return err == nil && string(text) == "haproxy\n"
	})
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	if serving := h.worker(); serving == "" {
		t.Error("HAProxy does not run")
	}
	h.must(renameio.WriteFile(file, []byte("builtin\n"), 0o644))
	h.expose(0, "sync")
	h.answers(public, "v1")
	h.must(h.StopHAProxy())
	h.answers(public, "v1")
	h.wants(h.expose(0, "set", "--global", "engine").Stdout, "The engine is builtin, as before")
}

// A daemon that is killed and started again, or restarted, serves what it served before, and no hook is needed for that.
func TestDaemonThatDiesOrRestarts(t *testing.T) {
	t.Parallel()
	h := start(t, builtin)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	l := h.load(public, 4, 10)
	for range 3 {
		h.must(h.RestartDaemon())
		h.seen(l, 10)
	}
	h.push("mail", source("v2", lead(public, private)), switched(l, "v2"))
	h.seen(l, 10)
	h.judge(l)

	h.must(h.StopDaemon())
	h.closed(public)
	const remedy = "systemctl start dokku-expose"
	h.wants(h.expose(1, "check").Stderr, remedy)
	h.wants(h.expose(1, "sync").Stderr, remedy)
	h.wants(h.expose(1, "stats").Stderr, remedy)
	h.wants(h.expose(0, "list").Stdout, "closed")
	var text strings.Builder
	h.fails("post-deploy", h.Push("mail", source("v3", lead(public, private)), said(&text)))
	h.wants(text.String(), remedy)
	h.must(h.StartDaemon())
	await(t, "the ports are back", func() bool {
		c, err := h.dial(public)
		return err == nil && c.version == "v3" // Dokku has written the new container down
	})
	h.expose(0, "check")
}

// A limit for all ports together is in force at once, and so is its end.
func TestTotalConnectionsOfTheBuiltInEngine(t *testing.T) {
	t.Parallel()
	h := start(t, builtin)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	c, err := h.dial(public)
	h.must(err)
	h.expose(0, "set", "--global", "total-connections", "1")
	h.expose(0, "check")
	served := make(chan error, 1)
	go func() {
		_, err := h.dial(public)
		served <- err
	}()
	const moment = 300 * time.Millisecond
	select {
	case err := <-served:
		t.Errorf("a connection too many is not left to wait: %v", err)
	case <-time.After(moment):
	}
	h.expose(0, "set", "--global", "total-connections", "0")
	h.must(<-served)
	h.must(c.echo())
}
