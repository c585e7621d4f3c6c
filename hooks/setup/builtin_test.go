package setup_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"dokku-expose/internal/dockertest"
	"dokku-expose/internal/load"
)

// hostDocker is this host's Docker, in a machine at another place: its own /run is empty when it starts.
const hostDocker = "/var/host-docker.sock"

// served is a machine that serves containers of this host's Docker at privileged ports: those of an app mail at servedPort and, one
// above, those of an app chat.
type served struct {
	*machine
	// mail and chat are the apps' names, which are also what their containers answer, and mailID and chatID the containers.
	mail, chat, mailID, chatID string
	before                     []string
}

const servedPort = 25

// bootServed starts a machine with everything but the plugin's installation.
func bootServed(t *testing.T, init, stopSignal string, env ...string) *served {
	t.Helper()
	m := &served{}
	// In a network of their own, nobody else takes the addresses of what has stopped.
	network := dockertest.Network(t, network.CreateOptions{})
	image := dockertest.Image(t, fstest.MapFS{
		"testapp": {Data: dockertest.Program(t, "dokku-expose/internal/testapp"), Mode: 0o755}, "PORTS": {Data: []byte("25:5025\n"), Mode: 0o644},
	}, `CMD ["/testapp"]`)
	run := func(app string) (name, id string) {
		name = app + "-" + strings.ToLower(rand.Text()[:8])
		return name, dockertest.Run(t, image, dockertest.Options{
			Labels: dockertest.Labels(name, "web", 1), Env: []string{"PORTS=5025", "VERSION=" + name},
			Host: &container.HostConfig{NetworkMode: container.NetworkMode(network)},
		})
	}
	m.mail, m.mailID = run("mail")
	m.chat, m.chatID = run("chat")
	more := []string{"--network", network, "--volume", "/var/run/docker.sock:" + hostDocker}
	m.machine = bootWith(t, more, init, stopSignal, append(env, "DOCKER_HOST=unix://"+hostDocker)...)
	m.env = append(m.env, "DOKKU_PID=1")
	for name, id := range map[string]string{m.mail: m.mailID, m.chat: m.chatID} {
		m.must("mkdir /home/dokku/" + name + " && echo " + id + " >/home/dokku/" + name + "/CONTAINER.web.1 && chown -R dokku:dokku /home/dokku/" + name)
	}
	m.before = m.listing()
	return m
}

// open gives the apps their ports.
func (m *served) open() {
	m.t.Helper()
	for i, app := range []string{m.mail, m.chat} {
		m.must(fmt.Sprintf("runuser -u dokku -- %s/subcommands/add expose:add %s %d:5025 proxy-protocol=off", installedTree, app, servedPort+i))
	}
	m.check()
}

// check is expose:check, which finds nothing wrong.
func (m *served) check() {
	m.t.Helper()
	// The services have a capability that user dokku has not, who therefore sees less of their processes than of his own.
	m.must(fmt.Sprintf("runuser -u dokku -- %s/subcommands/check expose:check", installedTree))
}

// rebootSwapped reboots the machine, and gives the containers each other's addresses while it is down. Clients that connect all
// the while must never get to the other app's container.
func (m *served) rebootSwapped() {
	m.t.Helper()
	mail, chat, machine := m.address(m.mailID), m.address(m.chatID), m.ip
	output(m.t, exec.Command("docker", "stop", "--time", "30", m.id))
	output(m.t, exec.Command("docker", "stop", "--time", "1", m.mailID, m.chatID))
	loads := map[string]*load.Load{m.mail: m.openers(servedPort), m.chat: m.openers(servedPort + 1)}
	// The first to start gets the lowest address.
	for _, id := range []string{m.chatID, m.mailID, m.id} {
		output(m.t, exec.Command("docker", "start", id))
	}
	if m.findAddress(); m.address(m.mailID) != chat || m.address(m.chatID) != mail || m.ip != machine {
		m.t.Fatalf("mail had %s and has %s, chat had %s and has %s, the machine had %s and has %s",
			mail, m.address(m.mailID), chat, m.address(m.chatID), machine, m.ip)
	}
	for app, l := range loads {
		m.seen(l)
		for _, v := range l.Stop().Versions {
			if v.Name != app {
				m.t.Errorf("%d connections of %s got to %s\n%s", v.Answers, app, v.Name, m.journal())
			}
		}
	}
	m.await("systemd", "systemctl is-system-running --wait")
	m.check()
}

// address is a container's.
func (m *served) address(id string) string {
	m.t.Helper()
	const format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
	return strings.TrimSpace(output(m.t, exec.Command("docker", "inspect", "--format", format, id)))
}

// openers are clients that don't mind when nobody answers.
func (m *served) openers(port uint16) *load.Load {
	m.t.Helper()
	addr := netip.AddrPortFrom(netip.MustParseAddr(m.ip), port)
	l, err := load.Start(m.t.Context(), load.Config{Addr: addr, Openers: 4, Pause: time.Millisecond})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { l.Stop() })
	return l
}

// worker is the process that serves, a child of main.
func (m *served) worker(main string) string {
	m.t.Helper()
	return m.must("cat /proc/" + main + "/task/*/children")
}

func (m *served) dial() error {
	conn, err := net.Dial("tcp", net.JoinHostPort(m.ip, strconv.Itoa(servedPort)))
	if err == nil {
		err = conn.Close()
	}
	return err
}

func (m *served) load() *load.Load {
	m.t.Helper()
	addr := netip.AddrPortFrom(netip.MustParseAddr(m.ip), servedPort)
	l, err := load.Start(m.t.Context(), load.Config{Addr: addr, Openers: 4, Holders: 10, Pause: time.Millisecond})
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.journal())
	}
	m.t.Cleanup(func() { l.Stop() })
	return l
}

// seen waits until clients have had answers to connections from now on.
func (m *served) seen(l *load.Load) {
	m.t.Helper()
	if err := l.Await(m.t.Context(), 20); err != nil {
		m.t.Fatal(err)
	}
}

// judge ends the clients, who may have seen nothing wrong.
func (m *served) judge(l *load.Load) {
	m.t.Helper()
	if r := l.Stop(); r.Failed() > 0 || r.Held.Broken > 0 {
		var text strings.Builder
		_ = r.Print(&text) // into memory
		m.t.Errorf("%s\n%s\n%s", r.Summary(), &text, m.journal())
	}
}

// TestSystemdWithTheBuiltInEngine goes through what can happen to the daemon when it is what serves.
func TestSystemdWithTheBuiltInEngine(t *testing.T) {
	m := bootServed(t, "/sbin/init", "SIGRTMIN+3")
	m.await("systemd", "systemctl is-system-running --wait")
	m.must(`mkdir -p /var/lib/dokku/config/expose
		echo 'engine = "builtin"' >/var/lib/dokku/config/expose/global.toml
		chown -R dokku:dokku /var/lib/dokku/config/expose`)
	mainPID := func() string { return m.must("systemctl show --property MainPID --value " + daemon) }
	worker := func() string { return m.worker(mainPID()) }

	m.step(t, "an installation starts it, and names the app whose image has a PORTS already", func(t *testing.T) {
		property := "/var/lib/dokku/config/git/" + m.mail + "/source-image"
		m.must("mkdir -p $(dirname " + property + ") && echo -n vendor/mail >" + property)
		said := m.trigger("install")
		for _, part := range []string{"Started " + daemon, "dokku ps:rebuild " + m.mail} {
			if !strings.Contains(said, part) {
				t.Errorf("no %q in what install says:\n%s", part, said)
			}
		}
		m.must("rm -r /var/lib/dokku/config/git")
	})
	m.step(t, "the statistics page is ready", func(t *testing.T) { m.page("/", "/containers", "/metrics") })
	m.step(t, "it serves", func(t *testing.T) {
		m.open()
		m.judge(m.load())
	})
	m.step(t, "it runs with one capability", func(t *testing.T) {
		for _, pid := range []string{mainPID(), worker()} {
			status := strings.Fields(m.must("grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/" + pid + "/status"))
			uid := m.must("id -u dokku")
			// 0x400 is CAP_NET_BIND_SERVICE.
			want := strings.Fields("Uid: " + uid + " " + uid + " " + uid + " " + uid + " CapEff: 0000000000000400 CapBnd: 0000000000000400 NoNewPrivs: 1")
			if !slices.Equal(status, want) {
				t.Errorf("process %s has %q, want %q", pid, status, want)
			}
		}
		if got := m.must("stat --format '%U:%G %a' " + controlSocket); got != "dokku:dokku 660" {
			t.Errorf("the control socket is %s", got)
		}
		m.connects("dokku", controlSocket)
		m.connectsNot("nobody", controlSocket)
	})
	m.step(t, "twenty restarts lose no connection", func(t *testing.T) {
		l := m.load()
		for range 20 {
			m.must("systemctl restart " + daemon)
			m.seen(l)
		}
		m.judge(l)
	})
	m.step(t, "an update loses no connection", func(t *testing.T) {
		l, pid := m.load(), worker()
		m.must("echo >>" + installedTree + "/bin/dokku-expose-linux-" + runtime.GOARCH)
		if said := m.trigger("update"); !strings.Contains(said, "Restarted "+daemon) {
			t.Errorf("update says:\n%s", said)
		}
		m.seen(l)
		if now := worker(); now == pid {
			t.Error("the worker is the one before the update")
		}
		m.judge(l)
	})
	m.step(t, "a reload loses no connection", func(t *testing.T) {
		l, pid := m.load(), worker()
		m.must("systemctl reload " + daemon)
		m.seen(l)
		if now := worker(); now != pid {
			t.Errorf("the worker was %s and is %s", pid, now)
		}
		m.judge(l)
	})
	m.step(t, "its main process is killed, and no connection is lost", func(t *testing.T) {
		l, pid := m.load(), mainPID()
		m.must("kill -KILL " + pid)
		m.await("another main process", `pid=$(systemctl show --property MainPID --value `+daemon+`); [ "$pid" != 0 ] && [ "$pid" != `+pid+` ] && systemctl is-active `+daemon)
		m.seen(l)
		m.judge(l)
	})
	m.step(t, "its worker is killed, and the port is back", func(t *testing.T) {
		l, pid := m.load(), worker()
		m.must("kill -KILL " + pid)
		m.seen(l) // only what was connected is lost, and who came in between
		l.Stop()
		if now := worker(); now == pid {
			t.Error("the worker is the one that was killed")
		}
		m.judge(m.load())
	})
	m.step(t, "after a reboot each port leads to its own app", func(t *testing.T) {
		m.rebootSwapped()
		m.judge(m.load())
	})
	m.step(t, "a stop closes the port", func(t *testing.T) {
		m.must("systemctl stop " + daemon)
		m.awaitFunc("the port's end", func() error {
			if err := m.dial(); !errors.Is(err, syscall.ECONNREFUSED) {
				return fmt.Errorf("connecting gives %w", err)
			}
			return nil
		})
		m.must("systemctl start " + daemon)
		m.judge(m.load())
	})
	m.step(t, "a removal ends it and leaves nothing", func(t *testing.T) {
		l := m.load()
		m.trigger("uninstall", "expose")
		l.Stop()
		compareListings(t, m.before, m.listing())
		if left, err := m.sh("ls -d /run/*[d]okku-expose* || grep -l [d]okku-expose /proc/[0-9]*/cmdline"); err == nil {
			t.Errorf("left behind:\n%s", left)
		}
	})
}

// TestRunitWithTheBuiltInEngine does the same with runit, which watches one process, and on a machine without HAProxy, where the
// built-in engine is the default.
func TestRunitWithTheBuiltInEngine(t *testing.T) {
	const service = "/etc/runit/runsvdir/default/" + daemon
	m := bootServed(t, "sleep infinity", "SIGKILL", "DOKKU_INIT_SYSTEM=sv")
	m.must("rm /usr/sbin/haproxy")
	m.before = m.listing()
	mainPID := func() string { return m.must("cat " + service + "/supervise/pid") }
	running := "sv status " + service + " | grep '^run:' && test -S /run/dokku-expose-daemon/control.sock"

	m.step(t, "an installation leaves the start to runit", func(t *testing.T) {
		if said := m.trigger("install"); strings.Contains(said, "HAProxy") || strings.Contains(said, unit) {
			t.Errorf("install says:\n%s", said)
		}
		output(t, exec.Command("docker", "exec", "--detach", m.id, "sh", "-c", "exec runsvdir -P /etc/service >"+runitLog+" 2>&1"))
		m.await("the daemon", running+" && grep builtin /var/lib/dokku/data/expose/engine")
		m.open()
		m.judge(m.load())
	})
	m.step(t, "restarts lose no connection", func(t *testing.T) {
		l := m.load()
		for range 5 {
			m.must("sv restart " + service)
			m.seen(l)
		}
		m.judge(l)
	})
	m.step(t, "its worker is killed, and the port is back", func(t *testing.T) {
		l := m.load()
		m.await("the daemon", running)
		m.must("kill -KILL " + m.worker(mainPID()))
		m.seen(l) // only what was connected is lost, and who came in between
		l.Stop()
		m.judge(m.load())
	})
	m.step(t, "a removal ends it and leaves nothing", func(t *testing.T) {
		m.trigger("uninstall", "expose")
		if err := m.dial(); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("connecting gives %v", err)
		}
		compareListings(t, m.before, m.listing())
	})
}
