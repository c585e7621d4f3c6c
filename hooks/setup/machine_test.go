package setup_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"dokku-expose/internal/need"
)

const (
	installedTree = "/var/lib/dokku/plugins/available/expose"
	unit          = "dokku-expose-haproxy"
	daemon        = "dokku-expose"
	configFile    = "/var/lib/dokku/data/expose/haproxy/haproxy.cfg"
	savedFile     = "/var/lib/dokku/data/expose/haproxy/haproxy.json"
	program       = "/usr/local/lib/dokku-expose/dokku-expose"
)

// machine is a Dokku host without Dokku: a container with an init system of its own, Dokku's user and Dokku's folders.
type machine struct {
	t  *testing.T
	id string
	// ip is where this host reaches it.
	ip string
	// env is what Dokku exports to its plugins.
	env []string
}

// boot starts a machine with the plugin's tree in it, not yet installed. init is its first process.
// stopSignal tells it to shut down.
func boot(t *testing.T, init, stopSignal string, env ...string) *machine {
	t.Helper()
	return bootWith(t, nil, init, stopSignal, env...)
}

// bootWith is boot with more arguments of `docker run`.
func bootWith(t *testing.T, more []string, init, stopSignal string, env ...string) *machine {
	t.Helper()
	need.Root(t)
	need.Docker(t)
	need.Program(t, "docker", "docker.io or docker-cli")
	need.Program(t, "debootstrap", "debootstrap")

	image := strings.TrimSpace(output(t, exec.Command("../../scripts/systemd-image")))
	args := []string{
		"run", "--detach", "--label", "dokku-expose.test", "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN",
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
		// The host's cgroups, and so the host's names for them: systemd must find its own.
		"--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup",
		"--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--stop-signal", stopSignal,
	}
	args = append(append(args, more...), image)
	id := strings.TrimSpace(output(t, exec.Command("docker", append(args, strings.Fields(init)...)...)))
	t.Cleanup(func() { output(t, exec.Command("docker", "rm", "--force", "--volumes", id)) })

	m := &machine{t: t, id: id, env: append([]string{
		"PLUGIN_PATH=/var/lib/dokku/plugins", "DOKKU_ROOT=/home/dokku", "DOKKU_LIB_ROOT=/var/lib/dokku",
		"DOKKU_SYSTEM_USER=dokku", "DOKKU_SYSTEM_GROUP=dokku",
	}, env...)}
	m.findAddress()
	// As on this host, whose Docker a machine may be given.
	info, err := os.Stat("/var/run/docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	m.must(fmt.Sprintf("groupadd --non-unique --gid %d docker", info.Sys().(*syscall.Stat_t).Gid))
	m.must(`useradd --create-home --groups docker --shell /bin/bash dokku
		mkdir -p /var/lib/dokku/config /var/lib/dokku/data /var/lib/dokku/plugins/available /var/lib/dokku/plugins/enabled
		chown -R dokku:dokku /var/lib/dokku
		ln -s ` + installedTree + ` /var/lib/dokku/plugins/enabled/expose`)
	output(t, exec.Command("docker", "cp", releaseTree(t), id+":"+installedTree))
	m.must("chown -R dokku:dokku " + installedTree)
	return m
}

func (m *machine) findAddress() {
	m.t.Helper()
	const format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
	m.ip = strings.TrimSpace(output(m.t, exec.Command("docker", "inspect", "--format", format, m.id)))
}

// releaseTree is the plugin as a release carries it, with the program for this machine.
func releaseTree(t *testing.T) string {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "expose")
	if err := os.MkdirAll(filepath.Join(tree, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	output(t, exec.Command("cp", "--recursive", "--target-directory", tree,
		"../../plugin.toml", "../../install", "../../update", "../../uninstall", "../../go.mod", "../../scripts"))
	build := exec.Command("go", "build", "-buildvcs=false", "-o",
		filepath.Join(tree, "bin", "dokku-expose-linux-"+runtime.GOARCH), "../../cmd/dokku-expose")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output(t, build)
	return tree
}

// step is one thing that happens to the machine. The next builds on it, so the first failure is the last.
func (m *machine) step(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	ok := t.Run(name, func(t *testing.T) {
		m.t = t
		f(t)
	})
	m.t = t
	if !ok {
		t.FailNow()
	}
}

// sh runs a script as root in the machine.
func (m *machine) sh(script string) (string, error) {
	args := []string{"exec"}
	for _, e := range m.env {
		args = append(args, "--env", e)
	}
	out, err := exec.Command("docker", append(args, m.id, "sh", "-ec", script)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// must is sh for scripts that succeed.
func (m *machine) must(script string) string {
	m.t.Helper()
	out, err := m.sh(script)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s\n%s", script, err, out, m.journal())
	}
	return out
}

func (m *machine) journal() string {
	out, err := m.sh("journalctl --no-pager --lines 40 --unit " + unit + " --unit " + daemon)
	if err != nil {
		out = ""
	}
	said, _ := m.sh("tail -n 40 " + runitLog) // there is none where systemd runs
	return out + said
}

// runitLog is what services say where runit runs.
const runitLog = "/var/log/runit.log"

// trigger calls one of the plugin's scripts as plugn does.
func (m *machine) trigger(name string, args ...string) string {
	m.t.Helper()
	return m.must("/var/lib/dokku/plugins/enabled/expose/" + name + " " + strings.Join(args, " "))
}

// await waits until a script succeeds.
func (m *machine) await(what, script string) {
	m.t.Helper()
	m.awaitFunc(what, func() error {
		out, err := m.sh(script)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

func (m *machine) awaitFunc(what string, condition func() error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			m.t.Fatalf("%s: not within a minute: %v\n%s", what, err, m.journal())
		case <-again.C:
		}
	}
}

// listing names everything on the machine's disk that an installation could leave behind, with owner and mode.
func (m *machine) listing() []string {
	m.t.Helper()
	return strings.Split(m.must(`find / -xdev \( -path /proc -o -path /sys -o -path /tmp -o -path /run -o -path /var/log \
		-o -path /var/lib/systemd -o -name 'systemd-private-*' -o -name '*-' -path '/etc/*' \) -prune -o -printf '%p %u:%g %m\n' | LC_ALL=C sort
		sort /etc/passwd /etc/group`), "\n")
}

// greeting connects to a port of the machine and returns all that is said.
func (m *machine) greeting(port string) (string, error) {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(m.ip, port), 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	said, err := io.ReadAll(conn)
	return string(said), err
}

// output runs a command that must succeed.
func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}
