package hooks_test

import (
	"fmt"
	"strings"
	"testing"

	"dokku-expose/internal/rig"
)

// Two apps on the host's network can't have the same private port. The second one is refused before it replaces what serves, though the
// port accepts: it is the first one that does.
func TestGateRefusesAPrivatePortOfAnotherAppOnTheHostsNetwork(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		h.must(h.SetProperty("network", "--global", "initial-network", "host"))
		on := func(private uint16, version string, public uint16) rig.Source {
			src := source(version, lead(public, private))
			src.Listen = []uint16{private}
			return src
		}
		mail, chat, shared, own := h.port(), h.port(), h.port(), h.port()
		h.push("mail", on(shared, "mail", mail))
		h.answers(mail, "mail")

		var text strings.Builder
		// It does not listen: of two that do, Linux ends the second one.
		h.fails("check-deploy", h.Push("chat", on(shared, "chat", chat), rig.ContainerEnv("web.1", "NOLISTEN=1"), said(&text)))
		h.wants(text.String(), fmt.Sprintf("may not be the one that listens on port %d of this host", shared), "mail has a container on the host's network")
		h.closed(chat)
		h.answers(mail, "mail")

		h.push("chat", on(own, "chat", chat))
		h.answers(chat, "chat")
		// The app's own former container is no other app's.
		h.push("chat", on(own, "chat", chat), rig.ContainerEnv("web.1", "NOLISTEN=1"))
	})
}
