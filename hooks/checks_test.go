package hooks_test

import (
	"fmt"
	"strings"
	"testing"

	"dokku-expose/internal/rig"
	"dokku-expose/internal/wait"
)

// A port that the app opens for one client at a time is deployed although nobody listens on it, and nothing says that anything is
// wrong. Whoever comes first is a client.
func TestPortsThatAreOpenedOnDemand(t *testing.T) { forEachEngine(t, portsThatAreOpenedOnDemand) }

func portsThatAreOpenedOnDemand(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine, settings("hold", wait.Patience.String()))
	control, passive := h.port(), h.port()
	mappings := []string{lead(control, private), lead(passive, 9999) + " check=off"}
	h.push("ftp", source("v1", mappings...))
	h.answers(control, "v1")
	h.expose(0, "check")
	listed := h.expose(0, "list", "ftp").Stdout
	if n := strings.Count(listed, "web.1"); n != 2 {
		t.Errorf("%d ports lead to the container, want both:\n%s", n, listed)
	}

	h.run("an operator's setting is for all ports of an app", func() {
		h.expose(0, "set", "ftp", "check", "off")
		added := h.port()
		h.expose(0, "add", "ftp", lead(added, 9998))
		h.expose(0, "check")
		h.expose(0, "set", "ftp", "check")
		h.wants(h.expose(1, "check").Stderr, fmt.Sprintf("public port %d: ", added), "does not accept connections")
	})
}
