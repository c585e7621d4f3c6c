package hooks_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"dokku-expose/internal/rig"
)

// The log counts the connections that old-connections closes, in the engine's newest process and in former ones, and no connection
// that ended by itself.
func TestConnectionsThatAreCutAreLogged(t *testing.T) {
	forEachEngine(t, testCutIsLogged)
}

func testCutIsLogged(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	port := h.port()
	h.push("mail", lingering("v1", lead(port, private)))
	h.watched()
	var conns []*conn
	dial := func() {
		for range 3 {
			c, err := h.dial(port)
			h.must(err)
			h.must(c.echo())
			conns = append(conns, c)
		}
	}
	dial()
	// A new port is a reload of HAProxy, which leaves the connections to its former worker.
	h.push("chat", source("v1", lead(h.port(), private)))
	h.must(h.RestartDaemon())
	h.watched()
	dial()
	h.push("mail", source("v2", lead(port, private)))
	h.must(conns[0].Close())
	h.must(conns[3].Close())
	await(t, "two have ended by themselves", func() bool {
		return h.expose(0, "report", "mail", "--expose-draining-connections").Stdout == "4\n"
	})

	h.expose(0, "set", "mail", "old-connections", "1s")
	var log string
	await(t, "four are logged as cut", func() bool {
		log = h.expose(0, "logs", "mail").Stdout
		n := 0
		for line := range strings.Lines(log) {
			if _, count, ok := strings.Cut(line, fmt.Sprintf(" app=mail public=%d connections=", port)); ok && strings.Contains(line, "level=WARN msg=cut ") {
				add, err := strconv.Atoi(strings.TrimSpace(count))
				h.must(err)
				n += add
			}
		}
		if n > 4 {
			t.Fatalf("%d are logged as cut, want 4:\n%s", n, log)
		}
		return n == 4
	})
	for i, c := range conns {
		if i%3 == 0 {
			continue
		}
		if line, err := c.lines.ReadString('\n'); err == nil || line != "" {
			t.Errorf("an old connection says %q, want it to be cut", line)
		}
	}
}
