package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-connections/nat"

	"dokku-expose/deploy"
	"dokku-expose/internal/dockertest"
)

// appImage is an image of the line server, on port 5025.
func appImage(t testing.TB, instructions ...string) string {
	t.Helper()
	return dockertest.Image(t, fstest.MapFS{"testapp": {Data: dockertest.Program(t, "dokku-expose/internal/testapp"), Mode: 0o755}},
		append([]string{`CMD ["/testapp"]`, "ENV PORTS=5025"}, instructions...)...)
}

func newClient(t testing.TB) *Client {
	t.Helper()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// find returns the container with the id as Containers describes it.
func find(t testing.TB, c *Client, id string) (deploy.Endpoint, bool) {
	t.Helper()
	list, err := c.Endpoints(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(d deploy.Endpoint) bool { return d.ID == id })
	if i < 0 {
		return deploy.Endpoint{}, false
	}
	return list[i], true
}

// greeting is what a server at addr says first. An app that has just been started may take a moment to listen.
func greeting(t testing.TB, addr netip.AddrPort) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		line, err := firstLine(ctx, addr)
		if err == nil {
			return line
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no greeting from %s: %v", addr, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func firstLine(ctx context.Context, addr netip.AddrPort) (string, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return bufio.NewReader(conn).ReadString('\n')
}

func TestContainersAddressesAnswer(t *testing.T) {
	api := dockertest.Client(t)
	image := appImage(t)
	c := newClient(t)
	id := dockertest.Run(t, image, dockertest.Options{
		Labels: dockertest.Labels("mail", "imap", 2),
		Env:    []string{"PORTS=5025,5993,5143", "VERSION=v7"},
		Host: &container.HostConfig{PortBindings: nat.PortMap{
			"5025/tcp": {{HostIP: "127.0.0.1"}},
			"5993/tcp": {{}},
			"5025/udp": {{HostIP: "127.0.0.1"}},
		}},
	})
	got, ok := find(t, c, id)
	if !ok {
		t.Fatal("the container is not in the list")
	}
	if got.App != "mail" || got.Process != "imap" || got.Dyno != "imap.2" || !got.Running || got.State != "running" || got.HostNetwork {
		t.Errorf("got %+v", got)
	}
	if want, err := c.ImageID(context.Background(), image); err != nil || got.Image != want || !strings.HasPrefix(want, "sha256:") {
		t.Errorf("image %q, want %q (%v)", got.Image, want, err)
	}
	for _, row := range []struct {
		name     string
		upstream deploy.Upstream
		private  uint16
	}{
		{"direct", deploy.UpstreamDirect, 5025},
		{"direct, not published", deploy.UpstreamDirect, 5143},
		{"published on loopback", deploy.UpstreamPublished, 5025},
		{"published on every address", deploy.UpstreamPublished, 5993},
	} {
		t.Run(row.name, func(t *testing.T) {
			targets, err := got.Targets(row.upstream, deploy.PrivatePort{Port: row.private})
			if err != nil {
				t.Fatal(err)
			}
			line := greeting(t, targets[0].Addr)
			if want := "v7 " + id[:12] + " "; !strings.HasPrefix(line, want) {
				t.Errorf("%s greets with %q, want %q", targets[0].Addr, line, want)
			}
		})
	}
	if len(got.Published) != 3 {
		t.Errorf("published: %v, want two ports of TCP and one of UDP", got.Published)
	}

	ports, err := c.PublishedPorts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	inspected, err := api.ContainerInspect(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []deploy.Frontend{
		{IP: netip.MustParseAddr("127.0.0.1"), Port: hostPort(t, inspected, "5025/tcp")},
		{IP: netip.IPv4Unspecified(), Port: hostPort(t, inspected, "5993/tcp")},
		{Proto: deploy.UDP, IP: netip.MustParseAddr("127.0.0.1"), Port: hostPort(t, inspected, "5025/udp")},
	} {
		if !slices.Contains(ports, Published{Listen: want, Container: strings.TrimPrefix(inspected.Name, "/"), App: "mail"}) {
			t.Errorf("published ports %v, want %v of mail among them", ports, want)
		}
	}
}

// hostPort is the port of this host at which Docker publishes one of the container.
func hostPort(t *testing.T, inspected container.InspectResponse, private nat.Port) uint16 {
	t.Helper()
	port, err := nat.ParsePort(inspected.NetworkSettings.Ports[private][0].HostPort)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(port)
}

func TestContainersNetworks(t *testing.T) {
	dockertest.Client(t)
	image := appImage(t)
	c := newClient(t)
	first := dockertest.Network(t, network.CreateOptions{Driver: "bridge"})
	second := dockertest.Network(t, network.CreateOptions{Driver: "bridge", Internal: true})
	if second < first {
		first, second = second, first
	}
	attach := func(t *testing.T, id string, networks ...string) {
		t.Helper()
		for _, n := range networks {
			if err := dockertest.Client(t).NetworkConnect(context.Background(), n, id, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	addressOn := func(t *testing.T, id, name string) netip.Addr {
		t.Helper()
		inspected, err := dockertest.Client(t).ContainerInspect(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		return netip.MustParseAddr(inspected.NetworkSettings.Networks[name].IPAddress)
	}
	for _, row := range []struct {
		name     string
		initial  string
		attached []string
		want     []string
	}{
		{"the initial network goes before others", second, []string{first}, []string{second, first}},
		{"bridge goes before the initial network", first, []string{second, "bridge"}, []string{"bridge", first, second}},
		{"others by name", "bridge", []string{second, first}, []string{"bridge", first, second}},
		{"bridge is what there is without a word", "", nil, []string{"bridge"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			id := dockertest.Run(t, image, dockertest.Options{
				Labels: dockertest.Labels("mail", "web", 1),
				Host:   &container.HostConfig{NetworkMode: container.NetworkMode(row.initial)},
			})
			attach(t, id, row.attached...)
			got, _ := find(t, c, id)
			var want []netip.Addr
			for _, n := range row.want {
				want = append(want, addressOn(t, id, n))
			}
			if !slices.Equal(got.Direct, want) {
				t.Errorf("direct addresses %v, want %v", got.Direct, want)
			}
			for _, addr := range got.Direct {
				if line := greeting(t, netip.AddrPortFrom(addr, 5025)); !strings.Contains(line, id[:12]) {
					t.Errorf("%s greets with %q", addr, line)
				}
			}
		})
	}

	t.Run("IPv4 and IPv6", func(t *testing.T) {
		enabled := true
		// A subnet of its own: Docker before 27 gives none by itself.
		subnet := fmt.Sprintf("fd5d:6f6b:6b75:%x::/64", rand.N(1<<16))
		both := dockertest.Network(t, network.CreateOptions{Driver: "bridge", EnableIPv6: &enabled,
			IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet}}}})
		id := dockertest.Run(t, image, dockertest.Options{
			Labels: dockertest.Labels("mail", "web", 1),
			Host:   &container.HostConfig{NetworkMode: container.NetworkMode(both)},
		})
		got, _ := find(t, c, id)
		if len(got.Direct) != 2 || !got.Direct[0].Is4() || !got.Direct[1].Is6() {
			t.Fatalf("direct addresses %v, want an IPv4 address and then an IPv6 address", got.Direct)
		}
		if line := greeting(t, netip.AddrPortFrom(got.Direct[1], 5025)); !strings.Contains(line, id[:12]) {
			t.Errorf("%s greets with %q", got.Direct[1], line)
		}
	})

	other := dockertest.Run(t, image, dockertest.Options{})
	for _, row := range []struct {
		mode     string
		want     string
		wantHost bool
	}{
		{"host", "127.0.0.1:5025", true},
		{"none", "", false},
		{"container:" + other, "", false},
	} {
		name, _, _ := strings.Cut(row.mode, ":")
		t.Run("network mode "+name, func(t *testing.T) {
			// It does not listen, since port 5025 may be taken in the network that it shares.
			id := dockertest.Run(t, image, dockertest.Options{
				Labels: dockertest.Labels("mail", "web", 1),
				Env:    []string{"NOLISTEN=1"},
				Host:   &container.HostConfig{NetworkMode: container.NetworkMode(row.mode)},
			})
			got, _ := find(t, c, id)
			targets, err := got.Targets(deploy.UpstreamAuto, deploy.PrivatePort{Port: 5025})
			if row.want == "" {
				if err == nil || !strings.Contains(err.Error(), name) {
					t.Errorf("got %v, %v, want an error that names the network mode", targets, err)
				}
				return
			}
			if err != nil || len(targets) != 1 || targets[0].Addr.String() != row.want || got.HostNetwork != row.wantHost {
				t.Errorf("got %v, %v, host network %v", targets, err, got.HostNetwork)
			}
		})
	}
}

func TestContainersStates(t *testing.T) {
	api := dockertest.Client(t)
	image := appImage(t)
	c := newClient(t)
	ctx := context.Background()
	labels := dockertest.Labels("mail", "web", 1)
	for _, row := range []struct {
		state string
		make  func(t *testing.T) string
	}{
		{"created", func(t *testing.T) string { return dockertest.Create(t, image, dockertest.Options{Labels: labels}) }},
		{"running", func(t *testing.T) string { return dockertest.Run(t, image, dockertest.Options{Labels: labels}) }},
		{"paused", func(t *testing.T) string {
			id := dockertest.Run(t, image, dockertest.Options{Labels: labels})
			if err := api.ContainerPause(ctx, id); err != nil {
				t.Fatal(err)
			}
			return id
		}},
		{"exited", func(t *testing.T) string {
			id := dockertest.Run(t, image, dockertest.Options{Labels: labels})
			if err := api.ContainerKill(ctx, id, "KILL"); err != nil {
				t.Fatal(err)
			}
			done, errs := api.ContainerWait(ctx, id, container.WaitConditionNotRunning)
			select {
			case <-done:
			case err := <-errs:
				t.Fatal(err)
			}
			return id
		}},
		{"restarting", func(t *testing.T) string {
			id := dockertest.Run(t, image, dockertest.Options{Labels: labels, Cmd: []string{"/testapp", "-no-such-flag"},
				Host: &container.HostConfig{RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyAlways}}})
			// Docker waits longer from restart to restart, so the state is soon the one that it is nearly always in.
			deadline := time.Now().Add(time.Minute)
			for restarts := 0; restarts < 8; {
				inspected, err := api.ContainerInspect(ctx, id)
				if err != nil || time.Now().After(deadline) {
					t.Fatalf("%d restarts, %v", inspected.RestartCount, err)
				}
				if restarts = inspected.RestartCount; inspected.State.Restarting {
					break
				}
			}
			return id
		}},
	} {
		t.Run(row.state, func(t *testing.T) {
			id := row.make(t)
			got, ok := find(t, c, id)
			if !ok || got.State != row.state || got.Running != (row.state == "running") {
				t.Errorf("got %+v (%v)", got, ok)
			}
			_, err := got.Targets(deploy.UpstreamAuto, deploy.PrivatePort{Port: 5025})
			if (err == nil) != got.Running {
				t.Errorf("address: %v", err)
			}
		})
	}
}

func TestContainersAreOnlyApps(t *testing.T) {
	dockertest.Client(t)
	image := appImage(t)
	c := newClient(t)
	run := dockertest.Labels("mail", "web", 1)
	run["com.dokku.container-type"] = "run"
	for _, row := range []struct {
		name   string
		labels map[string]string
		want   bool
	}{
		{"no labels", nil, false},
		{"dokku run", run, false},
		{"no label but the type", map[string]string{"com.dokku.container-type": "deploy"}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			id := dockertest.Create(t, image, dockertest.Options{Labels: row.labels})
			got, ok := find(t, c, id)
			if ok != row.want || got.App != "" || got.Process != "" || got.Dyno != "" {
				t.Errorf("listed: %v, want %v: %+v", ok, row.want, got)
			}
		})
	}
}

func TestContainersOfOneApp(t *testing.T) {
	dockertest.Client(t)
	image := appImage(t)
	c := newClient(t)
	const app, other = "containers-of-one-app", "containers-of-one-app-2"
	run := dockertest.Labels(app, "web", 1)
	run["com.dokku.container-type"] = "run"
	dockertest.Create(t, image, dockertest.Options{Labels: run})
	dockertest.Create(t, image, dockertest.Options{Labels: dockertest.Labels(other, "web", 1)})
	id := dockertest.Create(t, image, dockertest.Options{Labels: dockertest.Labels(app, "web", 1)})
	got, err := c.EndpointsOf(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].ID != id || got[0].App != app {
		t.Errorf("got %+v, want the container %s alone", got, id)
	}
}

// Dokku's own image runs it in a container that uses the host's Docker and sits on its bridge beside the apps.
func TestContainersSeenFromAContainer(t *testing.T) {
	api := dockertest.Client(t)
	socket, isUnix := strings.CutPrefix(api.DaemonHost(), "unix://")
	if !isUnix {
		t.Skipf("DOCKER_HOST is %s, and only a unix socket can be mounted", api.DaemonHost())
	}
	image := appImage(t)
	id := dockertest.Run(t, image, dockertest.Options{Labels: dockertest.Labels("mail", "web", 1)})
	fromHost, _ := find(t, newClient(t), id)

	viewer := dockertest.Image(t, fstest.MapFS{"containers": {Data: dockertest.Program(t, "dokku-expose/deploy/source/docker/testdata/containers"), Mode: 0o755}},
		`CMD ["/containers"]`)
	viewed := dockertest.Run(t, viewer, dockertest.Options{
		Env:  []string{"DOCKER_HOST=unix:///docker.sock"},
		Host: &container.HostConfig{Binds: []string{socket + ":/docker.sock"}},
	})
	stdout, stderr := output(t, viewed)
	var list []deploy.Endpoint
	if err := json.Unmarshal([]byte(stdout), &list); err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	i := slices.IndexFunc(list, func(d deploy.Endpoint) bool { return d.ID == id })
	if i < 0 || len(fromHost.Direct) == 0 || !slices.Equal(list[i].Direct, fromHost.Direct) {
		t.Errorf("from the host: %v, from a container: %v", fromHost.Direct, list)
	}
}

// output waits for a container to end and returns what it has printed.
func output(t *testing.T, id string) (stdout, stderr string) {
	t.Helper()
	api := dockertest.Client(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	logs, err := api.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	var out, errOut bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errOut, logs); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return out.String(), errOut.String()
}

func TestEnd(t *testing.T) {
	image := appImage(t)
	c := newClient(t)
	ctx := context.Background()
	t.Run("crashed until Docker gives up", func(t *testing.T) {
		host := &container.HostConfig{RestartPolicy: container.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}}
		id := dockertest.Run(t, image, dockertest.Options{Env: []string{"PORTS=none"}, Host: host})
		ended(t, id)
		end, err := c.End(ctx, id)
		if err != nil || end.Restarts != 2 || end.Code != 2 || end.At.IsZero() || end.OutOfMemory || end.Failure != "" {
			t.Errorf("got %+v, %v", end, err)
		}
	})
	t.Run("killed", func(t *testing.T) {
		id := dockertest.Run(t, image, dockertest.Options{})
		if err := dockertest.Client(t).ContainerKill(ctx, id, "KILL"); err != nil {
			t.Fatal(err)
		}
		ended(t, id)
		end, err := c.End(ctx, id)
		if err != nil || end.Code != 137 || end.At.IsZero() || end.Restarts != 0 {
			t.Errorf("got %+v, %v", end, err)
		}
	})
	t.Run("never started", func(t *testing.T) {
		id := dockertest.Create(t, image, dockertest.Options{})
		if end, err := c.End(ctx, id); err != nil || !end.At.IsZero() {
			t.Errorf("got %+v, %v", end, err)
		}
	})
	t.Run("gone", func(t *testing.T) {
		if end, err := c.End(ctx, strings.Repeat("0", 64)); err == nil {
			t.Errorf("got %+v", end)
		}
	})
}

// ended waits until a container has ended, and Docker does not start it again.
func ended(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		// Docker's own wait returns between two of a container's restarts, too.
		info, err := dockertest.Client(t).ContainerInspect(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Status == container.StateExited {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the container is %s still", info.State.Status)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestLastLines(t *testing.T) {
	image := appImage(t)
	c := newClient(t)
	ctx := context.Background()
	const last = "testapp: exiting as -exit-after wants it"
	var numbered []string
	for i := range 30 {
		numbered = append(numbered, fmt.Sprintf("line %d", i))
	}
	for _, row := range []struct {
		name, say string
		tty       bool
		limit     int
		want      []string
	}{
		{"no more lines than were asked for", strings.Join(numbered, "\n"), false, 1 << 10, append(numbered[27:], last)},
		{"the end of what is too long", strings.Repeat("y", 100<<10), false, 5, []string{"s it"}},
		{"a terminal's", "one\ntwo", true, 1 << 10, []string{"one\r", "two\r", last}},
	} {
		t.Run(row.name, func(t *testing.T) {
			id := dockertest.Run(t, image, dockertest.Options{Env: []string{"SAY=" + row.say, "EXIT_AFTER=1ms"}, Tty: row.tty})
			ended(t, id)
			if got, err := c.LastLines(ctx, id, 4, row.limit); err != nil || !slices.Equal(got, row.want) {
				t.Errorf("got %q, %v, want %q", got, err, row.want)
			}
		})
	}
	t.Run("a container that is gone", func(t *testing.T) {
		if got, err := c.LastLines(ctx, strings.Repeat("0", 64), 4, 100); err == nil {
			t.Errorf("got %q", got)
		}
	})
}
