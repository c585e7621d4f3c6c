package hooks_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var connectionsSoFar = regexp.MustCompile(`(?m)^CumConns: (\d+)$`)

// looked waits until the daemon has looked at HAProxy from now on: each of its questions is a connection.
func (h *host) looked() {
	h.t.Helper()
	asked := func() int {
		m := connectionsSoFar.FindStringSubmatch(h.haproxySays("show info"))
		if m == nil {
			h.t.Fatal("HAProxy does not count its connections")
		}
		n, err := strconv.Atoi(m[1])
		h.must(err)
		return n
	}
	// More than two looks have between them.
	const questions = 12
	first, own := asked(), 0
	await(h.t, "the daemon looks at HAProxy", func() bool {
		own++
		return asked()-first-own >= questions
	})
}

// HAProxy's death, the connections that ended with it, and its return are in the log; a reload is not taken for any of that.
func TestLogsTellOfHAProxysDeath(t *testing.T) {
	t.Parallel()
	h := start(t)
	mail, chat := h.port(), h.port()
	h.push("mail", source("v1", lead(mail, private)))
	h.push("chat", source("v1", lead(chat, private)))
	h.watched()
	for range 3 {
		_, err := h.dial(mail)
		h.must(err)
	}
	h.looked()
	if all := h.expose(0, "logs").Stdout; strings.Contains(all, "msg=down") || strings.Contains(all, "msg=up") {
		t.Errorf("HAProxy has not ended, but the log says:\n%s", all)
	}
	h.must(h.StopHAProxy())
	logs := func(args ...string) string { return h.expose(0, "logs", args...).Stdout }
	await(t, "the end is told", func() bool { return strings.Contains(logs(), "msg=down by=daemon engine=haproxy") })
	h.wants(logs("mail"), "msg=lost by=daemon app=mail engine=haproxy connections=3")
	if said := logs("chat"); strings.Contains(said, "msg=lost") {
		t.Errorf("chat lost nothing, but its log says:\n%s", said)
	}
	h.must(h.StartHAProxy())
	await(t, "the return is told", func() bool { return strings.Contains(logs(), "msg=up by=daemon engine=haproxy after=") })
	if n := strings.Count(logs(), "msg=down"); n != 1 {
		t.Errorf("it was told %d times that HAProxy had ended", n)
	}
}
