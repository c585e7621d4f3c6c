package hooks_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/docker/docker/api/types/container"

	"dokku-expose/internal/rig"
)

// A port that no container serves is a problem for as long as nobody serves it, unless an operator wanted that.
func TestCheckTellsWhyNoContainerServes(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public := h.port()
		h.push("mail", source("v1", lead(public, private)))
		h.watched()
		h.expose(0, "check")
		web := h.current("mail", "web.1")
		name := fmt.Sprintf("web.1 (%.12s)", web)
		ended := func(words ...string) {
			h.t.Helper()
			h.held("mail", public)
			h.wants(h.expose(1, "check").Stderr, append(words, fmt.Sprintf("mail: public port %d: no container serves it: %s ", public, name), "dokku ps:restart mail", "dokku logs mail")...)
			await(h.t, "the daemon's log tells of it", func() bool {
				return strings.Contains(last(h.daemonLog(), "msg=problem", "no container serves it"), words[0])
			})
			s := h.stats()
			await(h.t, "the metrics tell of it", func() bool {
				_, metrics := h.page(s, s.Password, "/metrics")
				return strings.Contains(metrics, "\ndokku_expose_problems 1\n")
			})
		}
		serves := func() {
			h.t.Helper()
			await(h.t, "it serves again", func() bool { return strings.Contains(h.expose(0, "list", "mail").Stdout, " serving ") })
			h.expose(0, "check")
		}
		h.run("killed", func() {
			h.kill(web)
			ended("has ended with exit code 137 (SIGKILL) at ")
			h.startAgain(web)
			serves()
		})
		h.run("crashed until Docker gives up", func() {
			policy := container.RestartPolicy{Name: "on-failure", MaximumRetryCount: 1}
			_, err := h.Docker.ContainerUpdate(h.t.Context(), web, container.UpdateConfig{RestartPolicy: policy})
			h.must(err)
			for restarts := range 2 {
				var pid int
				await(h.t, "it runs", func() bool {
					info, err := h.Docker.ContainerInspect(h.t.Context(), web)
					h.must(err)
					pid = info.State.Pid
					return info.RestartCount == restarts && pid != 0
				})
				// The log tells one reason of those that a port has had since it lost its container.
				serves()
				h.must(syscall.Kill(pid, syscall.SIGKILL))
			}
			await(h.t, "Docker gives up", func() bool {
				info, err := h.Docker.ContainerInspect(h.t.Context(), web)
				h.must(err)
				return info.State.Status == "exited"
			})
			ended("after a restart by Docker")
			h.must(h.Restart("mail"))
			serves()
		})
		h.run("stopped on purpose it is none", func() {
			h.must(h.Stop("mail"))
			h.expose(0, "check")
			h.expose(0, "add", "mail", lead(h.port(), private))
			h.expose(0, "check")
		})
		h.run("stopped on purpose before it had ports", func() {
			added := h.port()
			// Hosts of other tests have their containers in the same Docker. Those of an app of this name are no other test's.
			later := fmt.Sprintf("later-%d", added)
			h.push(later, source("v1"))
			h.must(h.Stop(later))
			h.expose(0, "add", later, lead(added, private))
			h.expose(0, "check")
			h.closed(added)
			h.must(h.Start(later))
			h.answers(added, "v1")
		})
	})
}

// Settings that can't be read keep the daemon from knowing anything of the apps. Their problems are not solved by that.
func TestProblemIsNotSolvedByUnreadableSettings(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public := h.port()
		h.push("mail", source("v1", lead(public, private)))
		h.watched()
		web := h.current("mail", "web.1")
		h.kill(web)
		await(t, "the problem is logged", func() bool { return last(h.daemonLog(), "msg=problem", "no container serves it") != "" })
		mend := h.spoil(h.settingsFile(""), "no setting\n")
		h.must(h.SignalDaemon(syscall.SIGHUP))
		await(t, "the daemon has tried to read them", func() bool { return last(h.daemonLog(), "msg=problem", "global.toml") != "" })
		if line := last(h.daemonLog(), "msg=solved", "app=mail"); line != "" {
			t.Errorf("the log says: %s", line)
		}
		mend()
		h.startAgain(web)
		await(t, "it is solved", func() bool { return last(h.daemonLog(), "msg=solved", "app=mail") != "" })
	})
}

// last is the last line of a log that has all the words, "" for none.
func last(log string, words ...string) string {
	found := ""
	for line := range strings.Lines(log) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			found = line
		}
	}
	return found
}

// A deploy goes well although nobody serves some of its ports. It must say so, and what to do.
func TestDeployTellsPortsThatNoContainerServes(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		web, imap, moved := h.port(), h.port(), h.port()
		unscaled := func(process string) string { return "the process type " + process + " has no container" }
		imapped := func(version string, lines ...string) rig.Source {
			src := source(version, lines...)
			src.Processes = map[string]string{"imap": "-ports 5993"}
			return src
		}
		h.run("a process type that Dokku has scaled to 0", func() {
			said := h.push("mail", imapped("v1", lead(web, private), lead(imap, 5993)+" process=imap"))
			h.wants(said, fmt.Sprintf("mail: public port %d: ", imap), unscaled("imap"), "dokku ps:scale mail imap=1", "PORTS line 2")
			h.answers(web, "v1")
			h.closed(imap)
			h.wants(h.expose(1, "check").Stderr, fmt.Sprintf("mail: public port %d: ", imap), unscaled("imap"))
			h.wants(h.expose(0, "sync").Stderr, unscaled("imap"))
			h.must(h.Scale("mail", "imap", 1))
			h.answers(imap, "v1")
			h.expose(0, "check")
		})
		h.run("an unknown process type", func() {
			said := h.refused("pre-build", "mail", imapped("v2", lead(web, private), lead(imap, 5993)+" process=pop", lead(h.port(), 5993)+" process=pop"))
			h.wants(said, unscaled("pop")[:len("the process type pop")], "the Procfile does not have (it has: imap, web)", "PORTS lines 2-3")
			if strings.Contains(said, "Building") {
				h.t.Errorf("it was built:\n%s", said)
			}
		})
		h.run("an operator's port of an unknown one stops no push", func() {
			added := h.port()
			h.wants(h.expose(0, "add", "mail", lead(added, 5993), "process=pop").Stderr, unscaled("pop"), "expose:add")
			h.wants(h.push("mail", imapped("v2", lead(web, private), lead(imap, 5993)+" process=imap")), unscaled("pop"))
			h.expose(0, "remove", "mail", fmt.Sprint(added))
		})
		h.run("a port that is gone from PORTS", func() {
			said := h.push("mail", imapped("v3", lead(web, private)))
			h.wants(said, fmt.Sprintf("closed, since its PORTS does not have them any more: %d\n", imap))
			h.closed(imap)
		})
		h.run("all ports moved to a process type without containers", func() {
			h.must(h.Scale("mail", "imap", 0))
			said := h.push("mail", imapped("v4", lead(web, 5993)+" process=imap"))
			h.wants(said, fmt.Sprintf("mail: public port %d: ", web), unscaled("imap"))
			h.closed(web)
		})
		h.run("ps:scale to 0", func() {
			h.push("chat", source("v1", lead(moved, private)))
			var text strings.Builder
			h.must(h.Scale("chat", "web", 0, said(&text)))
			h.wants(text.String(), fmt.Sprintf("chat: public port %d: it is closed", moved), "dokku ps:scale chat web=1")
			h.closed(moved)
		})
		h.run("what is pushed while all is scaled to 0 is in force once it is not", func() {
			other := h.port()
			h.wants(h.push("chat", source("v2", lead(other, private))), fmt.Sprintf("chat: public port %d: ", other))
			h.must(h.Scale("chat", "web", 1))
			h.answers(other, "v2")
			h.closed(moved)
		})
		h.run("no process type of the Procfile has a container at first", func() {
			only := h.port()
			src := source("v1", lead(only, 5993)+" process=imap")
			src.Files["Procfile"] = "imap: /app/testapp -ports 5993\n"
			h.wants(h.push("post", src), fmt.Sprintf("post: public port %d: ", only), "dokku ps:scale post imap=1")
			h.must(h.Scale("post", "imap", 1))
			h.answers(only, "v1")
		})
		h.run("app.json says how many containers there are", func() {
			h.must(h.SetProperty("ps", "chat", "can-scale", "false"))
			text := h.push("chat", source("v3", lead(moved, private)+" process=pop"))
			h.wants(text, unscaled("pop"), "formation.pop.quantity")
		})
	})
}
