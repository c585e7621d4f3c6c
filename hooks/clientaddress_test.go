package hooks_test

import (
	"fmt"
	"strings"
	"testing"
)

// An app sees this host's address as every client's. On ports whose servers trust addresses somebody has to think of it.
func TestCheckTellsOfTrustInAddresses(t *testing.T) {
	t.Parallel()
	h := start(t, builtin)
	const postgres = 5432
	public, local, other := h.port(), h.port(), h.port()
	src := source("v1", lead(public, postgres), fmt.Sprintf("127.0.0.1:%d:%d", local, postgres), lead(other, private))
	src.Listen = append(src.Listen, postgres)
	h.push("base", src)
	warned := func() {
		h.t.Helper()
		said := h.expose(1, "check").Stderr
		h.wants(said, fmt.Sprintf("base: public port %d: the app takes this host for every client", public),
			"expose:set base proxy-protocol v2", "expose:set base allow NETWORK", "expose:set base proxy-protocol off")
		if strings.Contains(said, fmt.Sprint(local)) || strings.Contains(said, fmt.Sprint(other)) {
			h.t.Errorf("a port that is not concerned is named:\n%s", said)
		}
	}
	warned()
	for _, way := range [][2]string{{"proxy-protocol", "off"}, {"allow", "127.0.0.0/8"}} {
		h.run(way[0], func() {
			h.expose(0, "set", "base", way[0], way[1])
			h.expose(0, "check")
			h.expose(0, "set", "base", way[0])
			warned()
		})
	}
	for _, option := range []string{"proxy-protocol=off", "allow=127.0.0.0/8"} {
		h.run("PORTS says "+option, func() {
			src.Files["PORTS"] = lead(public, postgres) + " " + option + "\n"
			h.push("base", src)
			h.expose(0, "check")
		})
	}
}
