package hooks_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dokku-expose/internal/rig"
)

// What is wrong with a port, and with HAProxy, is seen from outside: the engine itself does not always know. Not parallel: one part
// has another HAProxy first on the PATH.
func TestCheckSeesWhatTheEngineDoesNot(t *testing.T) {
	h := start(t)
	public, silent := h.port(), h.port()
	h.push("mail", source("v1", lead(public, private)))
	h.expose(0, "check")

	h.run("a container that does not accept", func() {
		h.expose(0, "add", "mail", lead(silent, 9999))
		h.wants(h.expose(1, "check").Stderr, fmt.Sprintf("mail: public port %d: ", silent), "does not accept connections")
		h.expose(0, "remove", "mail", fmt.Sprint(silent))
		h.expose(0, "check")
	})
	h.run("a HAProxy that hangs", func() {
		h.must(syscall.Kill(-h.HAProxyGroup(), syscall.SIGSTOP))
		result := h.expose(1, "check")
		h.must(syscall.Kill(-h.HAProxyGroup(), syscall.SIGCONT))
		h.wants(result.Stderr, "HAProxy does not answer on", "systemctl restart dokku-expose-haproxy")
		h.expose(0, "check")
	})
	h.run("a HAProxy that was upgraded, and not started again", func() {
		dir := h.t.TempDir()
		h.must(os.WriteFile(filepath.Join(dir, "haproxy"), []byte("#!/bin/sh\necho HAProxy version 9.9.9 2030/01/01\n"), 0o755))
		h.t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		h.wants(h.expose(1, "check").Stderr, "9.9.9 is installed", "systemctl restart dokku-expose-haproxy")
	})
	h.run("a limit of open files that is too low", func() {
		real, err := exec.LookPath("haproxy")
		h.must(err)
		dir := h.t.TempDir()
		h.must(os.WriteFile(filepath.Join(dir, "haproxy"), fmt.Appendf(nil, "#!/bin/sh\nulimit -n 1200\nexec %s \"$@\"\n", real), 0o755))
		h.t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		h.must(h.StopHAProxy())
		h.must(h.StartHAProxy())
		await(h.t, "check sees the limit of the HAProxy that has started", func() bool {
			result, err := h.Command("check")
			h.must(err)
			return result.Code == 1 && strings.Contains(result.Stderr, "LimitNOFILE")
		})
	})
	h.run("a port that somebody closed, and then took", func() {
		h.haproxySays(fmt.Sprintf("disable frontend mail:%d", public))
		h.closed(public)
		h.wants(h.expose(1, "check").Stderr, fmt.Sprintf("mail: public port %d: nobody listens on it", public))
		listener, err := net.Listen("tcp", fmt.Sprint(":", public))
		h.must(err)
		defer listener.Close()
		h.wants(h.expose(1, "check").Stderr, fmt.Sprintf("mail: public port %d: ", public), "and not the engine")
	})
}

// A port that the engine could not have when it started is named once, with the line that asks for it.
func TestCheckNamesWhoAsksForAClosedPort(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public := h.port()
		h.push("mail", source("v1", "# mail", fmt.Sprintf("127.0.0.1:%d:%d", public, private)))
		var listener net.Listener
		restarted(h, func() {
			var err error
			listener, err = net.Listen("tcp", loopback(public).String())
			h.must(err)
		})
		defer listener.Close()
		h.expose(1, "sync")
		said := h.expose(1, "check").Stderr
		h.wants(said, fmt.Sprintf("mail: public port 127.0.0.1:%d: PORTS line 2: ", public), "listens on it already")
		if strings.Contains(said, "expose:add") || strings.Count(said, fmt.Sprintf("public port 127.0.0.1:%d", public)) != 1 {
			t.Errorf("check says\n%s", said)
		}
	})
}

// restarted stops the engine in force and starts it again, with something done meanwhile.
func restarted(h *host, meanwhile func()) {
	h.t.Helper()
	if h.HAProxyGroup() == 0 {
		h.must(h.StopDaemon())
		meanwhile()
		h.must(h.StartDaemon())
		return
	}
	h.must(h.StopHAProxy())
	meanwhile()
	// HAProxy does not start with a port that it can't have.
	_, err := h.Command("sync")
	h.must(err)
	h.must(h.StartHAProxy())
}

// A difference between HAProxy and the built-in engine is no mistake of the app's: check remarks on it, and succeeds.
func TestCheckRemarksOnProxyHeaders(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public, other := h.port(), h.port()
		h.push("mail", source("v1", lead(public, private), lead(other, private)))
		const remark = "HAProxy closes a proxy whose PROXY header"
		if said := h.expose(0, "check").Stdout; strings.Contains(said, remark) {
			t.Errorf("nobody reads a header, and it says:\n%s", said)
		}
		h.expose(0, "set", "mail", "accept-proxy", "10.0.0.0/8")
		said, want := h.expose(0, "check").Stdout, 0
		if h.HAProxyGroup() != 0 {
			want = 1
			h.wants(h.expose(0, "check", "--format", "json").Stdout, remark, `"level": "remark"`)
		}
		if n := strings.Count(said, remark); n != want {
			t.Errorf("it says so %d times, want %d:\n%s", n, want, said)
		}
		h.wants(said, "Nothing is wrong with the public ports of mail")
		crashes := h.HAProxyGroup() != 0 && strings.Contains(h.haproxySays("show info"), "Version: 2.6.12")
		if strings.Contains(said, "can crash") != crashes {
			t.Errorf("HAProxy 2.6.12 runs: %t, and it says:\n%s", crashes, said)
		}
	})
}
