package hooks_test

import (
	"encoding/json"
	"testing"
)

// A reload leaves a worker behind for as long as its connections last, so that a push makes one at the most.
func TestChangeOfPortsIsOneReload(t *testing.T) {
	t.Parallel()
	h := start(t)
	one, two, three := h.port(), h.port(), h.port()
	h.push("mail", source("v1", lead(one, private), lead(two, private)))
	for _, step := range []struct {
		name           string
		version        string
		mapped, closed []uint16
		reloads        int
	}{
		{"the same ports", "v2", []uint16{one, two}, []uint16{three}, 0},
		{"one goes, another one comes", "v3", []uint16{one, three}, []uint16{two}, 1},
		{"all are others", "v4", []uint16{two}, []uint16{one, three}, 1},
		{"one comes", "v5", []uint16{one, two}, []uint16{three}, 1},
		{"one goes", "v6", []uint16{one}, []uint16{two, three}, 1},
	} {
		h.run(step.name, func() {
			before := h.reloads()
			var lines []string
			for _, public := range step.mapped {
				lines = append(lines, lead(public, private))
			}
			h.push("mail", source(step.version, lines...))
			if got := h.reloads() - before; got != step.reloads {
				h.t.Errorf("%d reloads, want %d", got, step.reloads)
			}
			for _, public := range step.mapped {
				h.answers(public, step.version)
			}
			h.closed(step.closed...)
		})
	}
}

// reloads is how often HAProxy was reloaded since it was started.
func (h *host) reloads() int {
	h.t.Helper()
	var facts struct{ Reloads int }
	h.must(json.Unmarshal([]byte(h.expose(0, "stats", "--format", "json").Stdout), &facts))
	return facts.Reloads
}
