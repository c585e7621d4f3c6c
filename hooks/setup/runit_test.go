package setup_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestRunit installs the plugin as it happens in Dokku's own container image: plugins are installed before runit runs.
func TestRunit(t *testing.T) {
	m := boot(t, "sleep infinity", "SIGKILL", "DOKKU_INIT_SYSTEM=sv")
	const service = "/etc/runit/runsvdir/default/" + unit
	const running = "sv status " + service + " | grep '^run:' && test -S /run/dokku-expose/stats.sock"
	before := m.listing()
	// As on a host, where root may write there.
	m.must("mount -o remount,rw /proc/sys")
	reuse := func() string { return m.must("cat /proc/sys/net/ipv4/tcp_tw_reuse") }
	usual := reuse()

	m.step(t, "with neither a program nor a way to build one the remedies are named", func(t *testing.T) {
		m.must("mv " + installedTree + "/bin /root/bin")
		said, err := m.sh(installedTree + "/install")
		if err == nil || !strings.Contains(said, "neither Go 1.") || !strings.Contains(said, "dokku plugin:install URL-OF-THE-TARBALL --name expose") {
			t.Errorf("install: %v\n%s", err, said)
		}
		m.must("mv /root/bin " + installedTree + "/bin")
		compareListings(t, before, m.listing())
	})
	m.step(t, "under another name nothing is installed", func(t *testing.T) {
		const wrong = installedTree + "-0.1.0.tar.gz"
		m.must("mv " + installedTree + " " + wrong)
		said, err := m.sh(wrong + "/install")
		if err == nil || !strings.Contains(said, "dokku plugin:install URL --name expose") {
			t.Errorf("install: %v\n%s", err, said)
		}
		m.must(wrong + "/uninstall expose-0.1.0.tar.gz")
		m.must("mv " + wrong + " " + installedTree)
		compareListings(t, before, m.listing())
	})
	m.step(t, "an installation leaves the start to runit", func(t *testing.T) {
		if said := m.trigger("install"); !strings.Contains(said, service+"/run") {
			t.Errorf("install says:\n%s", said)
		}
		if said := m.trigger("install"); said != "" {
			t.Errorf("the second time it says:\n%s", said)
		}
		if got := reuse(); got != "1" {
			t.Errorf("tcp_tw_reuse is %s", got)
		}
		output(t, exec.Command("docker", "exec", "--detach", m.id, "runsvdir", "-P", "/etc/service"))
		m.await("HAProxy", running)
	})
	m.step(t, "HAProxy runs with one capability", func(t *testing.T) {
		status := m.must(`pid=$(cat ` + service + `/supervise/pid)
			grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs):' /proc/$pid/status | cut -f 2 | sort -u
			test "$(stat --format %U /proc/$pid)" = dokku-expose`)
		// 0x400 is CAP_NET_BIND_SERVICE.
		if want := "0000000000000400\n1"; status != want {
			t.Errorf("the process has %q, want %q", status, want)
		}
	})
	m.step(t, "HAProxy comes back when it is killed", func(t *testing.T) {
		pid := m.must("cat " + service + "/supervise/pid")
		m.must("kill -KILL " + pid)
		m.await("another process", running+` && [ "$(cat `+service+`/supervise/pid)" != `+pid+` ]`)
	})
	m.step(t, "the owners are set right that the image's start-up takes away", func(t *testing.T) {
		m.must("chown -Rh dokku:dokku /var/lib/dokku/data/expose")
		if said := m.trigger("install"); !strings.Contains(said, "data/expose/haproxy") {
			t.Errorf("install says:\n%s", said)
		}
		for _, path := range []string{configFile, savedFile} {
			if got := m.must("stat --format '%U:%G %a' " + path); got != "dokku:dokku-expose 640" {
				t.Errorf("%s is %s", path, got)
			}
		}
		if got := m.must("stat --format '%U:%G %a' $(dirname " + configFile + ")"); got != "dokku:dokku-expose 2750" {
			t.Errorf("its folder is %s", got)
		}
	})
	m.step(t, "a removal leaves nothing", func(t *testing.T) {
		if said := m.trigger("uninstall", "expose"); !strings.Contains(said, "removed "+service) {
			t.Errorf("uninstall says:\n%s", said)
		}
		if got := reuse(); got != usual {
			t.Errorf("tcp_tw_reuse is %s, before the installation it was %s", got, usual)
		}
		compareListings(t, before, m.listing())
	})
}
