package hooks_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"dokku-expose/internal/rig"
	"dokku-expose/internal/rig/rigtest"
	"dokku-expose/internal/wait"
)

func TestDeploysLoseNoConnection(t *testing.T) { forEachEngine(t, testDeploys) }

func testDeploys(t *testing.T, engine func(*rig.Options)) {
	for _, test := range []struct {
		name             string
		containers       int
		deploys          int // after the first two
		openers, holders int
		// private is the port that a version listens on.
		private func(version int) uint16
	}{
		{name: "one container", containers: 1, deploys: 6, openers: 16, holders: 50},
		{name: "three containers", containers: 3, deploys: 2, openers: 4, holders: 12},
		{name: "private ports that change with PORTS", containers: 1, deploys: 3, openers: 4, holders: 12,
			private: func(version int) uint16 { return private + uint16(version) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Load is what this is about: the race detector would take all that the machine has.
			h := start(t, engine, func(o *rig.Options) { o.Service = rigtest.Plugin(t) })
			public := h.port()
			app := func(version int) rig.Source {
				src := source(fmt.Sprint("v", version), lead(public, private))
				if test.private != nil {
					src = source(fmt.Sprint("v", version), lead(public, test.private(version)))
					src.Listen = []uint16{test.private(version)}
				}
				return src
			}
			h.push("mail", app(1))
			if test.containers > 1 {
				h.must(h.Scale("mail", "web", test.containers))
			}
			l := h.load(public, test.openers, test.holders)
			// The first deploy may still find that HAProxy needs more room.
			l.Phase("first deploy")
			h.push("mail", app(2), switched(l, "v2"))
			worker := h.worker()
			for version := 3; version <= test.deploys+2; version++ {
				l.Phase(fmt.Sprint("deploy of v", version))
				h.push("mail", app(version), switched(l, fmt.Sprint("v", version)))
				h.seen(l, test.openers)
			}
			if now := h.worker(); now != worker {
				t.Errorf("HAProxy was reloaded: its worker is process %s, it was %s", now, worker)
			}
			r := h.judge(l)
			last := r.Versions[len(r.Versions)-1]
			if want := fmt.Sprint("v", test.deploys+2); last.Name != want {
				t.Errorf("the last version that answered is %s, want %s", last.Name, want)
			}
			for _, id := range h.containers("mail") {
				if r.Containers[id[:12]] == 0 {
					t.Errorf("container %.12s got no connection", id)
				}
			}
		})
	}
}

func TestAppsThatDeployAtTheSameTimeLoseNoConnection(t *testing.T) {
	forEachEngine(t, testDeploysAtTheSameTime)
}

func testDeploysAtTheSameTime(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	apps := map[string]uint16{"mail": h.port(), "chat": h.port()}
	for app, public := range apps {
		h.push(app, source("v1", lead(public, private)))
	}
	var both sync.WaitGroup
	for app, public := range apps {
		l := h.load(public, 4, 10)
		t.Cleanup(func() { h.judge(l) })
		both.Go(func() {
			for version := 2; version <= 5; version++ {
				v := fmt.Sprint("v", version)
				if err := h.Push(app, source(v, lead(public, private)), switched(l, v)); err != nil {
					t.Errorf("%s: %v", app, err)
				}
			}
		})
	}
	both.Wait()
	for _, public := range apps {
		h.answers(public, "v5")
	}
}

func TestDeployWithChecksDisabledHoldsConnections(t *testing.T) { forEachEngine(t, testChecksDisabled) }

func testChecksDisabled(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine, settings("hold", wait.Patience.String()))
	public := h.port()
	h.must(h.CreateApp("mail"))
	h.must(h.ChecksDisable("mail"))
	h.push("mail", source("v1", lead(public, private)))
	l := h.load(public, 4, 10)
	for version := 2; version <= 3; version++ {
		v := fmt.Sprint("v", version)
		l.Phase(v)
		src := source(v, lead(public, private))
		src.Env["LISTEN_DELAY"] = "1s" // nobody but the plugin waits for it
		h.push("mail", src, switched(l, v))
		h.seen(l, 20)
	}
	h.answers(public, "v3")
	h.judge(l)
}

// Dokku stops the containers of the old name before it builds the new ones: until then they serve, afterwards clients are held.
func TestRenameRefusesNoConnection(t *testing.T) { forEachEngine(t, testRename) }

func testRename(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine, settings("hold", "1h"))
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	before := h.containers("mail")[0]
	// No held connections: their container ends them.
	l := h.load(public, 4, 0)
	var dead func()
	watch := func(c rig.Call) bool {
		switch c.Name {
		case "pre-delete":
			l.Phase("the old containers are about to be stopped")
			h.seen(l, 20)
			h.servedBy(public, before)
			h.wants(h.expose(0, "list", "post").Stdout, "serving")
		case "scheduler-stop":
			// What waits in its queue is reset by its end.
			dead = l.Dies(before)
		case "scheduler-post-delete":
			dead()
		}
		return true
	}
	h.must(h.Rename("mail", "post", rig.Before(watch)))
	h.answers(public, "v1")
	// The old container serves up to the moment in which Docker stops it. How long a deploy takes, and so whether a held client gives
	// up, is the machine's affair.
	r := l.Stop()
	if failed := r.Failed() - r.Stale - r.TimedOut; failed > 0 {
		var text strings.Builder
		h.must(r.Print(&text))
		t.Errorf("%s\n%s", r.Summary(), &text)
	}
	h.wants(h.expose(0, "check").Stdout, "Nothing is wrong")
}

// A deploy without checks that takes longer than connections are held says how many it has cost.
func TestDeployWithChecksDisabledSaysWhatItCost(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine, settings("hold", "300ms"))
		public := h.port()
		h.must(h.CreateApp("mail"))
		h.must(h.ChecksDisable("mail"))
		h.push("mail", source("v1", lead(public, private)))
		// Dokku asks for the arguments of a container when it has stopped the old one, and before there is a new one.
		lose := sync.OnceFunc(func() {
			for range 2 {
				if c, err := h.dial(public); err == nil {
					t.Errorf("%s answers", c.version)
				}
			}
		})
		cost := rig.Before(func(c rig.Call) bool {
			if c.Name == "docker-args-process-deploy" {
				lose()
			}
			return true
		})
		h.wants(h.push("mail", source("v2", lead(public, private)), cost),
			"2 connections to public ports of mail were closed", "dokku checks:enable mail", "dokku expose:set mail hold")
		h.wants(h.expose(0, "logs", "mail").Stdout, "msg=unserved", "connections=2")
		if text := h.push("mail", source("v3", lead(public, private))); strings.Contains(text, "were closed") {
			t.Errorf("a deploy that has cost nobody anything says\n%s", text)
		}
	})
}

func TestScalingLosesNoConnection(t *testing.T) { forEachEngine(t, testScaling) }

func testScaling(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	l := h.load(public, 4, 12)
	for _, count := range []int{3, 1, 2} {
		l.Phase(fmt.Sprint("web=", count))
		h.must(h.Scale("mail", "web", count))
		h.servedBy(public, h.containers("mail")...)
	}
	h.judge(l)
}

// post-deploy, after which Dokku stops the old containers, waits for their connections when it is told to.
func TestDrainWaitLetsConnectionsEnd(t *testing.T) { forEachEngine(t, testDrainWait) }

func testDrainWait(t *testing.T, engine func(*rig.Options)) {
	var out wait.Buffer
	h := start(t, engine, func(o *rig.Options) { o.Out = &out })
	port := h.port()
	h.push("mail", source("v1", lead(port, private)))
	h.expose(0, "set", "mail", "drain-wait", "10m")
	c, err := h.dial(port)
	h.must(err)

	pushed := make(chan error, 1)
	go func() { pushed <- h.Push("mail", source("v2", lead(port, private))) }()
	await(t, "post-deploy waits", func() bool { return strings.Contains(out.String(), "for 1 connections to old containers of mail") })
	h.answers(port, "v2")
	h.must(c.echo())
	select {
	case err := <-pushed:
		t.Fatalf("the push did not wait for the connection: %v", err)
	default:
	}
	h.must(c.Close())
	h.must(<-pushed)
	h.wants(out.String(), "They have ended")
}
