package hooks_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dokku-expose/internal/rig"
)

// looked waits until the daemon has looked at HAProxy from now on: it tells of an app's old container with a connection, in the first
// look that finds one.
func (h *host) looked() {
	h.t.Helper()
	port := h.port()
	h.push("late", lingering("v1", lead(port, private)))
	_, err := h.dial(port)
	h.must(err)
	h.push("late", source("v2", lead(port, private)))
	await(h.t, "the daemon looks at HAProxy", func() bool { return strings.Contains(h.expose(0, "logs", "late").Stdout, "msg=drain") })
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

// Hooks append to the log, however long it is; the daemon renames it, and the command still shows what it has.
func TestDaemonRenamesALongLog(t *testing.T) {
	t.Parallel()
	h := start(t, withoutDaemon)
	path := filepath.Join(h.Lib, "data", rig.Plugin, "events.log")
	h.must(os.WriteFile(path, []byte(strings.Repeat("msg=filler\n", 1<<20/len("msg=filler\n")+1)), 0o640))
	h.refused("pre-build", "typo", source("v1", "nonsense"))
	if _, err := os.Stat(path + ".1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the log was renamed without the daemon: %v", err)
	}
	h.must(h.StartDaemon())
	await(t, "the daemon renames the log", func() bool {
		_, err := os.Stat(path + ".1")
		return err == nil
	})
	h.wants(h.expose(0, "logs", "typo").Stdout, "msg=refuse by=pre-build app=typo")
}
