package hooks_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"dokku-expose/internal/rig"
)

// ps:stop takes as long as the slowest container. Its ports are closed before that.
func TestStopClosesPortsBeforeContainersStop(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public, operator := h.port(), h.port()
		h.push("mail", source("v1", lead(public, private)))
		h.expose(0, "add", "mail", lead(operator, private))
		// stop wants the ports to be closed while the containers run still, and returns how ps:stop ended.
		stop := func(opts ...rig.Option) error {
			h.t.Helper()
			container, seen := h.current("mail", "web.1"), false
			err := h.Stop("mail", append(opts, rig.After(func(c rig.Call, r rig.Result) {
				if c.Name != "scheduler-stop" {
					return
				}
				seen = true
				info, err := h.Docker.ContainerInspect(h.t.Context(), container)
				h.must(err)
				if !info.State.Running {
					h.t.Error("the container has stopped already: this has tested nothing")
				}
				h.closed(public, operator)
			}))...)
			if !seen {
				h.t.Error("scheduler-stop was not called")
			}
			return err
		}
		h.run("an established connection goes on", func() {
			c, err := h.dial(public)
			h.must(err)
			defer c.Close()
			h.must(stop(rig.After(func(call rig.Call, _ rig.Result) {
				if call.Name == "scheduler-stop" {
					h.must(c.echo())
				}
			})))
			h.closed(public, operator)
			h.wants(h.expose(0, "list", "mail").Stdout, "stopped")
			h.must(h.Start("mail"))
			h.answers(public, "v1")
			h.answers(operator, "v1")
		})
		h.run("a command that dies before anything was stopped leaves the ports open", func() {
			result, err := h.Trigger("scheduler-stop", "docker-local", "mail")
			h.must(err)
			if result.Code != 0 {
				h.t.Errorf("exit status %d", result.Code)
			}
			h.expose(0, "sync")
			h.answers(public, "v1")
		})
		h.run("one that dies when all have stopped leaves them to ps:start", func() {
			if err := stop(rig.DieBefore("post-stop")); !errors.Is(err, rig.ErrDied) {
				h.t.Errorf("got %v", err)
			}
			h.must(h.Start("mail"))
			h.answers(public, "v1")
		})
		h.run("another scheduler's is none of ours", func() {
			result, err := h.Trigger("scheduler-stop", "nomad", "mail")
			h.must(err)
			if result.Code != 0 {
				h.t.Errorf("exit status %d", result.Code)
			}
			h.answers(public, "v1")
		})
		h.run("with state that can't be read", func() {
			h.must(os.WriteFile(filepath.Join(h.Lib, "data", rig.Plugin, "apps", "mail.json"), []byte("{"), 0o600))
			h.must(stop())
			h.closed(public, operator)
		})
	})
}
