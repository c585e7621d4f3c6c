package hooks_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/renameio/v2"

	"dokku-expose/deploy"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/rig/rigtest"
)

// Nobody can say what an app asks for whose files can't be read. What is served for it must not become another app's for
// that, and Dokku must be able to stop it.
func TestUnreadableFilesOfAnAppGiveItsPortsToNobody(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.must(h.CreateApp("other"))
	for _, test := range []struct{ name, file, text string }{
		{"settings", filepath.Join(h.Lib, "config", rig.Plugin, "apps", "mail.toml"), "hold = \"soon\"\n"},
		{"state", filepath.Join(h.Lib, "data", rig.Plugin, "apps", "mail.json"), "{"},
	} {
		h.run(test.name, func() {
			public := h.port()
			if test.name == "settings" {
				h.push("mail", source("v1"))
				h.expose(0, "add", "mail", lead(public, private))
			} else {
				h.push("mail", source("v1", lead(public, private)))
			}
			h.must(renameio.WriteFile(test.file, []byte(test.text), 0o644))
			h.wants(h.expose(1, "list", "mail").Stdout, fmt.Sprint(public), "serving", "web.1")

			h.wants(h.refused("pre-build", "other", source("v2", fmt.Sprintf("127.0.0.1:%d:%d", public, private))),
				"leads to the app mail", test.file)
			h.wants(h.expose(1, "add", "other", lead(public, private)).Stderr, "leads to the app mail")
			h.push("other", source("v2", lead(h.port(), private)))
			h.answers(public, "v1")

			var text strings.Builder
			h.must(h.Stop("mail", said(&text)))
			h.wants(text.String(), test.file)
			h.must(h.Destroy("mail"))
			h.closed(public)
		})
	}
}

// The same while the app is stopped, so that nothing is served for it: what it has is what its files may say.
func TestUnreadableFilesOfAStoppedAppGiveItsPortsToNobody(t *testing.T) {
	t.Parallel()
	h := start(t)
	pushed, added, bound, free, others := h.port(), h.port(), h.port(), h.port(), h.port()
	h.push("mail", source("v1", lead(pushed, private)))
	h.expose(0, "add", "mail", lead(added, private), fmt.Sprintf("127.0.0.1:%d:%d", bound, private))
	h.must(h.Stop("mail"))
	h.push("zulu", source("v1", lead(others, private)))

	settings := filepath.Join(h.Lib, "config", rig.Plugin, "apps", "mail.toml")
	state := filepath.Join(h.Lib, "data", rig.Plugin, "apps", "mail.json")
	for _, test := range []struct {
		name, file string
		change     func(text string) string
		kept       []uint16
		lost       bool // nobody can tell which ports they were
	}{
		{"another setting is wrong", settings, func(text string) string { return text + "hold = \"soon\"\n" }, []uint16{added, bound}, false},
		{"a line is no TOML", settings, func(text string) string { return "allowed-ports = 1-65535\n" + text }, []uint16{added, bound}, false},
		{"a mapping is wrong", settings, func(text string) string {
			return strings.Replace(text, fmt.Sprint(bound, ":"), fmt.Sprint(bound, ":7"), 1)
		}, []uint16{added, bound}, false},
		{"a mapping lacks its quotes", settings, func(text string) string { return strings.ReplaceAll(text, "\"", "") }, []uint16{added, bound}, false},
		{"what is remembered lacks its end", state, func(text string) string { return strings.TrimRight(text, "} \n") }, []uint16{pushed}, false},
		{"what is remembered is lost", state, func(string) string { return "{" }, []uint16{pushed, free}, true},
	} {
		h.run(test.name, func() {
			text, err := os.ReadFile(test.file)
			h.must(err)
			h.must(renameio.WriteFile(test.file, []byte(test.change(string(text))), 0o644))
			defer func() { h.must(renameio.WriteFile(test.file, text, 0o644)) }()
			for _, port := range test.kept {
				h.wants(h.refused("pre-build", "zulu", source("v2", lead(others, private), lead(port, private))), fmt.Sprintf("public port %d (PORTS line 2)", port), "mail")
				h.wants(h.expose(1, "add", "zulu", lead(port, private)).Stderr, fmt.Sprintf("public port %d", port), "mail")
			}
			if test.lost {
				// What an app has is its own, whatever nobody can tell of another one.
				h.push("zulu", source("v2", lead(others, private)))
				return
			}
			h.expose(0, "add", "zulu", lead(free, private))
			h.expose(0, "remove", "zulu", fmt.Sprint(free))
		})
	}
	h.must(h.Start("mail"))
	h.answers(pushed, "v1")
	h.answers(added, "v1")
}

// A port that somebody else has taken must not keep other settings of the app from being changed, or itself from being given up.
func TestPortThatIsTakenCanBeRemoved(t *testing.T) {
	t.Parallel()
	h := start(t)
	first, second, good := h.port(), h.port(), h.port()
	h.push("mail", source("v1"))
	h.expose(0, "add", "mail", lead(first, private), lead(second, private), lead(good, private))
	h.must(h.StopHAProxy())
	for _, port := range []uint16{first, second} {
		listener, err := net.Listen("tcp", fmt.Sprint(":", port))
		h.must(err)
		defer listener.Close()
	}
	// It starts without those two.
	h.expose(1, "sync")
	h.must(h.StartHAProxy())
	h.wants(h.expose(1, "sync").Stderr, fmt.Sprint(first), fmt.Sprint(second))

	h.wants(h.expose(0, "set", "mail", "hold", "3s").Stderr, fmt.Sprintf("public port %d: ", first))
	h.wants(h.expose(0, "remove", "mail", fmt.Sprint(first)).Stderr, fmt.Sprintf("public port %d: ", second))
	h.expose(0, "remove", "mail", fmt.Sprint(second))
	h.wants(h.expose(0, "check").Stdout, "Nothing is wrong")
	h.answers(good, "v1")
}

// prepare writes the configuration that HAProxy starts with.
func (h *host) prepare() error {
	cmd := exec.Command(rigtest.Plugin(h.t), "prepare")
	cmd.Env = append(os.Environ(), "DOKKU_ROOT="+h.Root, "DOKKU_LIB_ROOT="+h.Lib, "DOKKU_EXPOSE_RUN_DIR="+h.Run)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	return nil
}

// When HAProxy starts and nobody can say whose container has which address now, it has no address to send anything to.
func TestHAProxyStartsWithoutAddressesThatNobodyConfirmed(t *testing.T) {
	t.Parallel()
	h := start(t)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	info, err := h.Docker.ContainerInspect(t.Context(), h.current("mail", "web.1"))
	h.must(err)
	address := netip.MustParseAddr(info.NetworkSettings.Networks["bridge"].IPAddress).String()
	file := filepath.Join(h.Lib, "data", rig.Plugin, "haproxy", "haproxy.cfg")
	configured := func() bool {
		text, err := os.ReadFile(file)
		h.must(err)
		return strings.Contains(string(text), address+":")
	}
	h.must(h.StopHAProxy())
	settings := filepath.Join(h.Lib, "config", rig.Plugin, "global.toml")
	text, err := os.ReadFile(settings)
	h.must(err)
	h.must(renameio.WriteFile(settings, append(text, "no setting\n"...), 0o644))
	if err := h.prepare(); err == nil {
		t.Error("broken settings are no error")
	}
	if configured() {
		t.Errorf("HAProxy is to start with the address %s", address)
	}
	h.must(renameio.WriteFile(settings, text, 0o644))
	h.must(h.StartHAProxy())
	h.expose(0, "sync")
	h.answers(public, "v1")

	// Somebody is about to write what was right until a moment ago.
	lock, err := deploy.Acquire(t.Context(), filepath.Join(h.Lib, "data", rig.Plugin, "lock"))
	h.must(err)
	before, err := os.ReadFile(file)
	h.must(err)
	h.must(h.StopHAProxy())
	h.must(renameio.WriteFile(settings, append(text, "no setting\n"...), 0o644))
	prepared := make(chan error, 1)
	go func() { prepared <- h.prepare() }()
	await(t, "the addresses are out of the configuration", func() bool { return !configured() })
	h.must(renameio.WriteFile(file, before, 0o640))
	h.must(lock.Release())
	if err := <-prepared; err == nil {
		t.Error("broken settings are no error")
	}
	if configured() {
		t.Errorf("HAProxy is to start with the address %s, which was written meanwhile", address)
	}
	h.must(renameio.WriteFile(settings, text, 0o644))

	h.must(h.prepare())
	if !configured() {
		t.Error("the container that Docker confirms is not in the configuration")
	}
}

// An empty file must not be the password.
func TestEmptyPasswordIsMadeAnew(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.push("mail", source("v1", lead(h.port(), private)))
	h.must(renameio.WriteFile(filepath.Join(h.Lib, "data", rig.Plugin, "stats-password"), []byte("\n"), 0o600))
	h.expose(0, "sync")
}
