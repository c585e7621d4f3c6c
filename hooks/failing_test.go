package hooks_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"dokku-expose/internal/rig"
)

// A deploy of one container that fails changes nothing: the old version goes on with its old PORTS, and what the failed one
// asked for belongs to nobody. ps:restart then deploys the failed push's image, as Dokku does, and its PORTS with it.
func TestFailedDeployOfOneContainerChangesNothing(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.must(h.CreateApp("other"))
	for _, test := range []struct {
		name  string
		how   rig.Option
		wants []string // that the plugin says
	}{
		{"Dokku's own check fails", rig.FailCheck("web.1"), nil},
		{"nobody listens", rig.ContainerEnv("web.1", "NOLISTEN=1"),
			[]string{"nothing accepts connections on the private port 5025 (PORTS line 1, public port", "after 1s", "check-timeout 2m", "0.0.0.0"}},
		{"another port is listened on", rig.ContainerEnv("web.1", "PORTS=5026"), []string{"private port 5025"}},
	} {
		h.run(test.name, func() {
			kept, dropped, added := h.port(), h.port(), h.port()
			h.push("mail", source("v1", lead(kept, private), lead(dropped, private)))
			old, worker := h.current("mail", "web.1"), h.worker()
			listed := h.expose(0, "list", "mail").Stdout
			h.expose(0, "set", "mail", "check-timeout", "1s") // no longer than needed for those that never pass

			var text strings.Builder
			if err := h.Push("mail", source("v2", lead(kept, private), lead(added, private)), test.how, said(&text)); err == nil {
				h.t.Fatal("the push went well")
			}
			h.wants(text.String(), test.wants...)
			unchanged := func() {
				h.t.Helper()
				h.answers(kept, "v1")
				h.answers(dropped, "v1")
				h.closed(added)
				if now := h.expose(0, "list", "mail").Stdout; now != listed {
					h.t.Errorf("expose:list says\n%swant\n%s", now, listed)
				}
				if h.worker() != worker {
					h.t.Error("HAProxy was reloaded")
				}
				if h.current("mail", "web.1") != old {
					h.t.Error("the container is another one")
				}
			}
			unchanged()
			h.expose(0, "set", "mail", "check-timeout")
			unchanged()

			h.run("and its ports can be had by another app", func() {
				h.expose(0, "add", "other", lead(added, private))
				// Now the image of the failed push can't be deployed either.
				text.Reset()
				h.fails("docker-args-process-deploy", h.Restart("mail", said(&text)))
				h.wants(text.String(), "belongs to the app other")
				h.answers(kept, "v1")
				h.expose(0, "remove", "other", fmt.Sprint(added))
			})
			h.run("and ps:restart deploys it", func() {
				h.must(h.Restart("mail"))
				h.answers(kept, "v2")
				h.answers(added, "v2")
				h.closed(dropped)
			})
			h.must(h.Destroy("mail"))
		})
	}
}

// Of two containers of which the second fails, Dokku keeps the first: each serves what the PORTS of its own image says.
func TestFailedDeployOfTwoContainersLeavesEachItsOwnMapping(t *testing.T) {
	t.Parallel()
	h := start(t)
	shared, added := h.port(), h.port()
	h.push("mail", source("v1", lead(shared, private)))
	h.must(h.Scale("mail", "web", 2))
	before := h.containers("mail")
	l := h.load(shared, 1, 4)

	second := source("v2", lead(shared, 5026), lead(added, 5026))
	second.Listen = []uint16{5026}
	if err := h.Push("mail", second, rig.FailCheck("web.2")); err == nil {
		t.Fatal("the push went well")
	}
	// No trigger tells of the failure. Until the next reconcile the old ones, which still run, serve.
	h.servedBy(shared, before...)
	h.closed(added)

	h.expose(0, "sync")
	h.servedBy(shared, h.containers("mail")...)
	h.servedBy(added, h.current("mail", "web.1"))

	h.must(h.Retire(true))
	h.servedBy(shared, h.containers("mail")...)

	h.must(h.Restart("mail"))
	h.servedBy(shared, h.containers("mail")...)
	h.answers(shared, "v2")
	h.answers(added, "v2")
	h.judge(l)
}

// Whenever the process of a deploy is killed: what is left is the old state or the new one, for a reconcile and for the
// next push, with no port lost and none claimed for good.
func TestDeployKilledAtEachTriggerLeavesASaneState(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.must(h.CreateApp("other"))
	for _, trigger := range []string{
		"pre-build", "post-release-builder", "docker-args-process-deploy", "check-deploy", "scheduler-register-retired",
		"scheduler-post-deploy-process", "core-post-deploy", "post-deploy",
	} {
		h.run(trigger, func() {
			kept, dropped, added := h.port(), h.port(), h.port()
			h.push("mail", source("v1", lead(kept, private), lead(dropped, private)))
			old := h.current("mail", "web.1")
			if err := h.Push("mail", source("v2", lead(kept, private), lead(added, private)), rig.DieBefore(trigger)); !errors.Is(err, rig.ErrDied) {
				h.t.Fatalf("the push ended with %v", err)
			}
			h.answers(kept, "v1")
			h.answers(dropped, "v1")
			h.closed(added)

			// From the moment when Dokku has written the new container down, that is the app's.
			h.expose(0, "sync")
			if h.current("mail", "web.1") == old {
				h.answers(kept, "v1")
				h.answers(dropped, "v1")
				h.closed(added)
			} else {
				h.answers(kept, "v2")
				h.answers(added, "v2")
				h.closed(dropped)
			}

			h.push("mail", source("v3", lead(kept, private)))
			h.answers(kept, "v3")
			h.closed(dropped, added)
			h.expose(0, "add", "other", lead(dropped, private), lead(added, private))
			h.must(h.Destroy("mail"))
			if traces := h.traces("mail"); traces != nil {
				h.t.Errorf("left behind: %v", traces)
			}
		})
	}
}
