package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"dokku-expose/internal/need"
)

var dockerdFaults = []fault{
	{name: "dockerd restarted, with live-restore", dockerd: true, promise: loseNothing, inject: func(s *scene) { s.restartDockerd(syscall.SIGTERM, true) }},
	{name: "dockerd killed, with live-restore", dockerd: true, promise: loseNothing, short: true, inject: func(s *scene) { s.restartDockerd(syscall.SIGKILL, true) }},
	{name: "dockerd restarted", dockerd: true, promise: loseOwn, inject: func(s *scene) { s.restartDockerd(syscall.SIGTERM, false) }},
	{name: "dockerd killed", dockerd: true, promise: loseOwn, inject: func(s *scene) { s.restartDockerd(syscall.SIGKILL, false) }},
	{name: "dockerd killed, among many containers", dockerd: true, promise: loseOwn, inject: func(s *scene) {
		defer s.crowd(25)()
		s.restartDockerd(syscall.SIGKILL, false)
	}},
	{name: "dockerd stopped for seconds", dockerd: true, promise: loseNothing, inject: func(s *scene) { s.freeze(s.docker.cmd.Process.Pid) }},
	{name: "reboot, services before dockerd", dockerd: true, promise: loseEngine, inject: func(s *scene) {
		s.docker.liveRestore(s.t, false)
		ids := s.powerOff()
		s.docker.stop(s.t, syscall.SIGKILL)
		s.boot()
		s.docker.start(s.t)
		s.start(ids...)
	}},
}

// restartDockerd ends dockerd by a signal and starts it again. Without live-restore the containers go with it, and come back
// with other addresses.
func (s *scene) restartDockerd(signal syscall.Signal, liveRestore bool) {
	s.t.Helper()
	s.docker.liveRestore(s.t, liveRestore)
	if liveRestore {
		s.docker.stop(s.t, signal)
		<-time.After(pause)
		s.docker.start(s.t)
		return
	}
	ids := s.others()
	dead := s.dies(ids...)
	s.docker.stop(s.t, signal)
	s.docker.start(s.t)
	dead()
	s.start(ids...)
}

// crowd starts n containers that are no app's and come back with dockerd, so that addresses are handed out anew while there is
// more to do than to listen to others.
func (s *scene) crowd(n int) (leave func()) {
	s.t.Helper()
	var ids []string
	image := s.inspect(s.current(s.chat())[0]).Config.Image
	for range n {
		created, err := s.Docker.ContainerCreate(s.t.Context(), &container.Config{Image: image},
			&container.HostConfig{RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyAlways}}, nil, nil, "")
		s.must(err)
		ids = append(ids, created.ID)
	}
	s.start(ids...)
	return func() {
		for _, id := range ids {
			s.must(s.Docker.ContainerRemove(s.t.Context(), id, container.RemoveOptions{Force: true}))
		}
	}
}

// dockerd is a Docker engine of the test's own, with a bridge of its own.
type dockerd struct {
	dir, bridge string
	cmd         *exec.Cmd
	ended       <-chan struct{}
}

// newDockerd starts one that lasts as long as t.
func newDockerd(t *testing.T) *dockerd {
	t.Helper()
	need.Mounts(t)
	need.Program(t, "dockerd", "docker.io")
	need.Program(t, "containerd", "containerd")
	need.Program(t, "ip", "iproute2")
	// Not t.TempDir's kind of place: a path to a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "dockerd-")
	if err != nil {
		t.Fatal(err)
	}
	d := &dockerd{dir: dir, bridge: fmt.Sprintf("chaos%d", rand.IntN(1e9))}
	// Containers that were not removed are killed with what they have mounted, so that nothing keeps the folder.
	undoAtEnd(t, `
end() {
	pid=$(cat "$1") && kill "$pid" || return 0
	while kill -0 "$pid"; do sleep 0.1; done
}
tasks="ctr --address $1/containerd.sock --namespace moby tasks"
{
	end "$1/pid"
	for id in $($tasks list --quiet); do $tasks delete --force "$id"; done
	end "$1/containerd.pid"
	awk -v dir="$1/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount -l
	ip link delete "$2"
} >"$1/end.log" 2>&1
rm -rf "$1"`, d.dir, d.bridge)
	for _, args := range [][]string{
		{"link", "add", "name", d.bridge, "type", "bridge"},
		{"address", "add", freeSubnet(t).String(), "dev", d.bridge},
		{"link", "set", d.bridge, "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	// Its own, as on a real host: one that dockerd starts goes with it.
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		d.path("containerd"), d.path("run"), d.path("containerd.sock"))
	if err := os.WriteFile(d.path("containerd.toml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	containerd, _ := d.run(t, "containerd", "--config", d.path("containerd.toml"))
	if err := os.WriteFile(d.path("containerd.pid"), fmt.Append(nil, containerd.Process.Pid), 0o644); err != nil {
		t.Fatal(err)
	}
	d.configure(t, false)
	d.start(t)
	return d
}

// freeSubnet is the address of a bridge in a network that this host does not know.
func freeSubnet(t *testing.T) netip.Prefix {
	t.Helper()
	known, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
next:
	for {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rand.IntN(256)), byte(rand.IntN(256)), 1}), 24)
		for _, k := range known {
			if other, err := netip.ParsePrefix(k.String()); err == nil && other.Overlaps(subnet) {
				continue next
			}
		}
		return subnet
	}
}

func (d *dockerd) path(name string) string { return filepath.Join(d.dir, name) }

// host is what DOCKER_HOST would be.
func (d *dockerd) host() string { return "unix://" + d.path("sock") }

// run starts a program that ends with d.
func (d *dockerd) run(t *testing.T, program string, args ...string) (_ *exec.Cmd, ended <-chan struct{}) {
	t.Helper()
	log, err := os.OpenFile(d.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended, its log says
		close(done)
	}()
	return cmd, done
}

// start returns when it answers.
func (d *dockerd) start(t *testing.T) {
	t.Helper()
	d.cmd, d.ended = d.run(t, "dockerd", "--config-file", d.path("daemon.json"), "--containerd", d.path("containerd.sock"),
		"--data-root", d.path("data"), "--exec-root", d.path("exec"), "--pidfile", d.path("pid"), "--host", d.host(),
		"--bridge", d.bridge, "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false")
	d.await(t, func(ctx context.Context, c *client.Client) bool {
		_, err := c.Ping(ctx)
		return err == nil
	})
}

// stop ends it by a signal.
func (d *dockerd) stop(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.ended:
	case <-time.After(patience):
		t.Fatalf("dockerd does not end\n%s", d.log())
	}
}

// liveRestore says whether containers are to go on without dockerd.
func (d *dockerd) liveRestore(t *testing.T, on bool) {
	t.Helper()
	d.configure(t, on)
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.await(t, func(ctx context.Context, c *client.Client) bool {
		info, err := c.Info(ctx)
		return err == nil && info.LiveRestoreEnabled == on
	})
}

func (d *dockerd) configure(t *testing.T, liveRestore bool) {
	t.Helper()
	text, err := json.Marshal(map[string]bool{"live-restore": liveRestore})
	if err == nil {
		err = os.WriteFile(d.path("daemon.json"), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// await asks it until it is so.
func (d *dockerd) await(t *testing.T, is func(context.Context, *client.Client) bool) {
	t.Helper()
	c, err := client.NewClientWithOpts(client.WithHost(d.host()), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !is(ctx, c) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-d.ended:
			t.Fatalf("dockerd has ended\n%s", d.log())
		case <-ctx.Done():
			t.Fatalf("dockerd does not do as told within %s\n%s", patience, d.log())
		}
	}
}

func (d *dockerd) log() string {
	text, _ := os.ReadFile(d.path("log"))
	return string(text)
}
