package hooks_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dokku-expose/internal/rig"
	"dokku-expose/internal/rig/rigtest"
)

// welcome is what the installation prints about the apps of the host.
func (h *host) welcome() string {
	h.t.Helper()
	cmd := exec.Command(rigtest.Plugin(h.t), "welcome")
	cmd.Env = append(os.Environ(), "DOKKU_ROOT="+h.Root, "DOKKU_LIB_ROOT="+h.Lib)
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Errorf("welcome: %v\n%s", err, out)
	}
	return string(out)
}

// repository makes an app's folder a repository with a file PORTS, as Dokku keeps the source of an app.
func (h *host) repository(app, ports string) {
	h.t.Helper()
	work, bare := h.t.TempDir(), filepath.Join(h.Root, app)
	h.must(os.WriteFile(filepath.Join(work, "PORTS"), []byte(ports), 0o644))
	for _, args := range [][]string{
		{"init", "-q", "--bare", bare}, {"init", "-q", "-b", "master", work}, {"-C", work, "add", "."},
		{"-C", work, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "ports"},
		{"-C", work, "push", "-q", "-f", bare, "master"},
	} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			h.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// On a host where the plugin is new, apps have a PORTS that no deploy has read.
func TestPortsFromBeforeTheInstallationAreTold(t *testing.T) {
	t.Parallel()
	h := start(t, builtin)
	mail, image := h.port(), h.port()
	for _, app := range []string{"mail", "blog", "none"} {
		h.push(app, source("v1"))
	}
	h.repository("mail", lead(mail, private)+"\n")
	h.repository("blog", "# no ports yet\n")
	// An app that came from an image has no source of its own. This is what is left of one when the plugin is new.
	ref, err := h.Image("vendor/list", source("v1", lead(image, private)))
	h.must(err)
	h.must(h.CreateApp("list"))
	h.must(h.FromImage("list", ref))
	h.must(os.RemoveAll(filepath.Join(h.Lib, "data", rig.Plugin, "apps")))
	h.must(h.CreateApp("new"))
	h.repository("new", lead(mail, private)+"\n")

	want := "-----> These apps have public ports in a PORTS already, which come into force with the next deploy:\n" +
		"       dokku ps:rebuild list\n       dokku ps:rebuild mail\n"
	if got := h.welcome(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	said := h.expose(1, "check").Stderr
	h.wants(said, "mail: it has a PORTS that no deploy has brought into force", "dokku ps:rebuild mail", "dokku ps:rebuild list")
	if strings.Contains(said, "blog") || strings.Contains(said, "none") || strings.Contains(said, "new") {
		t.Errorf("apps without ports, or without a deploy, are named:\n%s", said)
	}
	h.push("mail", source("v2", lead(mail, private)))
	h.expose(0, "set", "list", "ports-file", "ignore")
	h.expose(0, "check")
	if got := h.welcome(); got != "" {
		t.Errorf("when all are deployed: %s", got)
	}
}

// An app's PORTS has one name, in whichever way it is read.
func TestPortsKeepTheirNameAfterStart(t *testing.T) {
	t.Parallel()
	h := start(t, builtin)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	from := h.expose(0, "list", "mail").Stdout
	h.wants(from, " PORTS line 1 ")
	h.must(h.Stop("mail"))
	h.must(h.Start("mail"))
	if now := h.expose(0, "list", "mail").Stdout; now != from {
		t.Errorf("it was\n%s\nand is\n%s", from, now)
	}
}

// A clone's PORTS is its original's at first, and is not read for that. Whoever mends it must hear of that.
func TestClonesCorrectedPortsAreNotIgnoredSilently(t *testing.T) {
	t.Parallel()
	h := start(t, builtin)
	public, own := h.port(), h.port()
	h.push("mail", source("v1", lead(public, private)))
	var text strings.Builder
	h.must(h.Clone("mail", "twin", said(&text)))
	const remedy = "dokku expose:set twin ports-file PORTS"
	h.wants(text.String(), remedy)
	h.wants(h.push("twin", source("v2", lead(own, private))), "The file PORTS of twin is ignored", remedy)
	h.closed(own)
	h.expose(0, "set", "twin", "ports-file", "PORTS")
	if text := h.push("twin", source("v3", lead(own, private))); strings.Contains(text, "ignored") {
		t.Error(text)
	}
	h.answers(own, "v3")
	h.wants(h.expose(0, "list", "twin").Stdout, fmt.Sprint(own))
}
