package setup_test

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestSystemd installs the plugin on a machine with systemd, and goes through what can happen to a host.
func TestSystemd(t *testing.T) {
	m := bootServed(t, "/sbin/init", "SIGRTMIN+3")
	m.await("systemd", "systemctl is-system-running --wait")
	mainPID := func() string { return m.must("systemctl show --property MainPID --value " + unit) }
	active := "systemctl is-active " + unit + " " + daemon

	m.step(t, "the first installation says what it does", func(t *testing.T) {
		said := m.trigger("install")
		for _, what := range []string{program, "system user dokku-expose", "user dokku to the group", "Started " + unit, "Started " + daemon, "This is a release"} {
			if !strings.Contains(said, what) {
				t.Errorf("%q is missing in:\n%s", what, said)
			}
		}
	})
	m.step(t, "the second says and changes nothing", func(t *testing.T) {
		pid, files := mainPID(), m.listing()
		for _, trigger := range []string{"install", "update"} {
			if said := m.trigger(trigger); said != "" {
				t.Errorf("%s says:\n%s", trigger, said)
			}
		}
		if now := mainPID(); now != pid {
			t.Errorf("HAProxy was restarted: its process was %s and is %s", pid, now)
		}
		compareListings(t, files, m.listing())
	})
	m.step(t, "the units are valid", func(t *testing.T) {
		if said := m.must("systemd-analyze verify " + unit + ".service " + daemon + ".service 2>&1"); said != "" {
			t.Errorf("systemd-analyze says:\n%s", said)
		}
	})
	m.step(t, "HAProxy runs with one capability", func(t *testing.T) {
		status := strings.Fields(m.must("grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/" + mainPID() + "/status"))
		uid := m.must("id -u dokku-expose")
		// 0x400 is CAP_NET_BIND_SERVICE.
		want := strings.Fields("Uid: " + uid + " " + uid + " " + uid + " " + uid + " CapEff: 0000000000000400 CapBnd: 0000000000000400 NoNewPrivs: 1")
		if !slices.Equal(status, want) {
			t.Errorf("the process has %q, want %q", status, want)
		}
	})
	m.step(t, "only Dokku's user and HAProxy's reach what is theirs", func(t *testing.T) {
		for _, row := range []struct{ path, want string }{
			{"/var/lib/dokku/config/expose", "dokku:dokku 755"},
			{"/var/lib/dokku/data/expose", "dokku:dokku 755"},
			{"/var/lib/dokku/data/expose/haproxy", "dokku:dokku-expose 2750"},
			{configFile, "dokku:dokku-expose 640"},
			{savedFile, "dokku:dokku-expose 640"},
			{"/run/dokku-expose", "dokku-expose:dokku-expose 750"},
			{"/run/dokku-expose/stats.sock", "dokku-expose:dokku-expose 660"},
			{"/run/dokku-expose/master.sock", "dokku-expose:dokku-expose 660"},
			{program, "root:root 755"},
			{installedTree + "/post-deploy", "dokku:dokku 777"},
			{installedTree + "/subcommands/list", "dokku:dokku 777"},
			{installedTree + "/commands", "dokku:dokku 777"},
		} {
			if got := m.must("stat --format '%U:%G %a' " + row.path); got != row.want {
				t.Errorf("%s is %s, want %s", row.path, got, row.want)
			}
		}
		m.connects("dokku", "/run/dokku-expose/stats.sock", "/run/dokku-expose/master.sock", pageSocket, controlSocket)
		m.connects("dokku-expose", pageSocket)
		m.connectsNot("nobody", "/run/dokku-expose/stats.sock", "/run/dokku-expose/master.sock", pageSocket, controlSocket)
	})
	m.step(t, "the statistics page is ready", func(t *testing.T) { m.page("/", "/containers", "/metrics") })
	m.step(t, "it serves", func(t *testing.T) {
		m.open()
		m.judge(m.load())
	})

	// A page on a port that only root, or CAP_NET_BIND_SERVICE, may bind. What is added by hand is gone with the next
	// configuration that prepare or the daemon renders, which shows whether they did.
	const port = "80"
	addPort := func() {
		m.must(`runuser -u dokku -- sh -c 'printf "%s\n" "frontend by-hand" "mode http" "bind :::` + port + ` v4v6" \
			"http-request return status 200 content-type text/plain string up" >>` + configFile + `'`)
	}
	serves := func() error {
		said, err := m.greeting(port)
		if err == nil && !strings.HasSuffix(said, "up") {
			err = fmt.Errorf("port %s says %q", port, said)
		}
		return err
	}
	prepared := "! grep by-hand " + configFile

	m.step(t, "a reload adds a privileged port and keeps the process", func(t *testing.T) {
		pid := mainPID()
		m.must("systemctl stop " + daemon)
		addPort()
		m.must("systemctl reload " + unit)
		m.awaitFunc("the port", serves)
		if now := mainPID(); now != pid {
			t.Errorf("the process was %s and is %s", pid, now)
		}
	})
	m.step(t, "an update ends no connection", func(t *testing.T) {
		pid := mainPID()
		conn, err := net.Dial("tcp", net.JoinHostPort(m.ip, port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\n"); err != nil {
			t.Fatal(err)
		}
		m.must("systemctl start " + daemon)
		// The program does not mind a byte behind its end; it is another file now.
		m.must("echo >>" + installedTree + "/bin/dokku-expose-linux-" + runtime.GOARCH)
		said := m.trigger("update")
		for _, what := range []string{"Installed " + program, "Restarted " + daemon} {
			if !strings.Contains(said, what) {
				t.Errorf("%q is missing in:\n%s", what, said)
			}
		}
		if now := mainPID(); now != pid {
			t.Errorf("HAProxy was restarted: its process was %s and is %s", pid, now)
		}
		if _, err := io.WriteString(conn, "Host: here\r\nConnection: close\r\n\r\n"); err != nil {
			t.Error(err)
		}
		got, err := io.ReadAll(conn)
		if err != nil || !strings.HasSuffix(string(got), "up") {
			t.Errorf("the connection that was open during the update got %q, %v", got, err)
		}
	})
	m.step(t, "an update that failed is made up for", func(t *testing.T) {
		const link = installedTree + "/post-deploy"
		m.must("rm " + link + "; touch " + link + "; echo >>" + installedTree + "/bin/dokku-expose-linux-" + runtime.GOARCH)
		if said, err := m.sh(installedTree + "/update"); err == nil || !strings.Contains(said, "post-deploy") {
			t.Errorf("update: %v\n%s", err, said)
		}
		m.must("rm " + link)
		for _, want := range []bool{true, false} {
			if said := m.trigger("install"); strings.Contains(said, "Restarted "+daemon) != want {
				t.Errorf("install says:\n%s", said)
			}
		}
	})
	m.step(t, "HAProxy comes back when it is killed, with a new configuration", func(t *testing.T) {
		pid := mainPID()
		m.must("kill -KILL " + pid)
		m.await("another process", active+` && [ "$(systemctl show --property MainPID --value `+unit+`)" != `+pid+` ] && `+prepared)
	})
	m.step(t, "without a new configuration it starts with the last good one", func(t *testing.T) {
		m.must("echo 'no setting' >/var/lib/dokku/config/expose/global.toml")
		addPort()
		m.must("systemctl restart " + unit)
		m.awaitFunc("the port", serves)
		m.must("rm /var/lib/dokku/config/expose/global.toml")
	})
	m.step(t, "after a reboot each port leads to its own app", func(t *testing.T) {
		m.rebootSwapped()
		m.must(active + " && " + prepared)
		m.judge(m.load())
	})
	m.step(t, "what an operator stopped stays stopped", func(t *testing.T) {
		m.must("systemctl stop " + unit + " " + daemon)
		if said := m.trigger("install"); said != "" {
			t.Errorf("install says:\n%s", said)
		}
		if state, err := m.sh(active); err == nil {
			t.Errorf("the unit is %s", state)
		}
		m.must("systemctl start " + unit + " " + daemon)
	})
	m.step(t, "another plugin's removal is none of its business", func(t *testing.T) {
		if said := m.trigger("uninstall", "postgres") + m.trigger("update", "postgres"); said != "" {
			t.Errorf("it says:\n%s", said)
		}
		m.must(active)
	})
	m.step(t, "its own leaves nothing", func(t *testing.T) {
		said := m.trigger("uninstall", "expose")
		for _, what := range []string{"Stopped " + unit, "Stopped " + daemon, "/var/lib/dokku/data/expose", "/var/lib/dokku/config/expose", "package stays"} {
			if !strings.Contains(said, what) {
				t.Errorf("%q is missing in:\n%s", what, said)
			}
		}
		compareListings(t, m.before, m.listing())
		// The brackets keep the search from finding itself.
		if left, err := m.sh("ls -d /run/*[d]okku-expose* || grep -l [d]okku-expose /proc/[0-9]*/cmdline"); err == nil {
			t.Errorf("left behind:\n%s", left)
		}
		if failed := m.must("systemctl list-units --failed --plain --no-legend"); failed != "" {
			t.Errorf("failed units:\n%s", failed)
		}
	})
}

// compareListings shows what is only in one of two sorted listings.
func compareListings(t *testing.T, before, after []string) {
	t.Helper()
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("new: %s", line)
		}
	}
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("gone: %s", line)
		}
	}
}
