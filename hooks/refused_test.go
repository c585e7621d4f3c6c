package hooks_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"dokku-expose/internal/rig"
)

// What a push asks for and can't have is refused before anything is built. The message names the holder and the remedy,
// and nothing changes.
func TestPushIsRefusedBeforeTheBuild(t *testing.T) { forEachEngine(t, pushIsRefusedBeforeTheBuild) }

func pushIsRefusedBeforeTheBuild(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	own, operator, held, asleep, mapped, detected, published := h.port(), h.port(), h.port(), h.port(), h.port(), h.port(), h.port()

	h.push("mail", source("v1", lead(own, private)))
	h.expose(0, "add", "mail", lead(operator, private))
	h.push("chat", source("v1", fmt.Sprintf("127.0.0.1:%d:%d", held, private)))
	h.push("idle", source("v1", lead(asleep, private)))
	h.must(h.Stop("idle"))

	h.must(h.CreateApp("blog"))
	h.must(h.SetProperty("ports", "blog", "map", fmt.Sprintf("http:%d:5000", mapped)))
	h.must(h.CreateApp("shop"))
	h.must(h.SetProperty("ports", "shop", "map-detected", fmt.Sprintf("http:%d:%d", detected, detected)))

	listener, err := net.Listen("tcp", ":0")
	h.must(err)
	defer listener.Close()
	listening := uint16(listener.Addr().(*net.TCPAddr).Port)
	publisher := h.publish(published)

	type row struct {
		name  string
		src   rig.Source
		wants []string
	}
	rows := []row{
		{"syntax errors, all of them", source("v2", lead(own, private), "0:5025", "25", "26:5025 proces=web", "4-2:4-2"),
			[]string{"PORTS:2:1: ", "PORTS:3:", "PORTS:4:", "proces", "PORTS:5:"}},
		{"a syntax error, which hides nothing else", source("v2", "0:5025", "22:5022", lead(held, private), lead(operator, private)),
			[]string{"PORTS:1:1: ", "port 22 is reserved", "belongs to the app chat", fmt.Sprintf("dokku expose:remove mail %d", operator)}},
		{"YAML", source("v2", "ports:", "  - \"25:5025\""),
			[]string{"PORTS:1:1: ", "this line looks like YAML", "looks like a line of a docker-compose file", "dokku expose:set mail ports-file ignore"}},
		{"host:port pairs", source("v2", "db.example.com:5432"), []string{"looks like a host:port pair", "dokku expose:set mail ports-file ignore"}},
		{"the same public port twice", source("v2", lead(own, private), lead(own, 5026)), []string{"PORTS:2:", fmt.Sprint(own)}},
		{"more ports than a file may have", source("v2", "20000-22000:20000-22000"), []string{"PORTS:1:", "1024"}},
		{"a file that is too long", source("v2", strings.Repeat("# nothing\n", 7000)), []string{"PORTS:", "64 KiB"}},
		{"ten thousand lines that fit", source("v2", strings.Repeat("7:7\n", 10_000)), []string{"PORTS:2:1: ", "mapped already", "that are not shown: 1004"}},
		{"the whole space", source("v2", "1-65535:1-65535"), []string{"PORTS:1:1: ", "too many public ports: 65535"}},
		{"control characters", source("v2", "25\x1b[2J:5025"), []string{"PORTS:1:3: "}},
		{"a symbolic link", prepared("PORTS", func(path string) error { return os.Symlink("/etc/passwd", path) }),
			[]string{"PORTS is a symbolic link", "regular file"}},
		{"another app's address, asked for on all addresses", source("v2", "# the first line", lead(held, private)),
			[]string{fmt.Sprintf("public port %d (PORTS line 2) belongs to the app chat", held), fmt.Sprintf("public port 127.0.0.1:%d", held), "take it out of PORTS of chat and deploy that"}},
		{"another app's address, asked for on that address", source("v2", fmt.Sprintf("127.0.0.1:%d:%d", held, private)),
			[]string{"belongs to the app chat"}},
		{"a stopped app's port", source("v2", lead(asleep, private)), []string{"belongs to the app idle"}},
		{"two ports, each with its reason", source("v2", lead(asleep, private), lead(held, private)),
			[]string{"belongs to the app idle", "belongs to the app chat"}},
		{"what expose:add gave the app", source("v2", lead(operator, private)),
			[]string{"asked for twice by mail", fmt.Sprintf("dokku expose:remove mail %d", operator)}},
		{"a port that a proxy of Dokku's maps", source("v2", lead(mapped, private)),
			[]string{"the app blog", "ports:set", "dokku ports:set blog http:80:5000"}},
		{"a port that Dokku detected", source("v2", lead(detected, private)),
			[]string{"the app shop", "detected from EXPOSE", "dokku ports:set shop http:80:5000", "dokku proxy:disable shop && dokku nginx:reload"}},
		{"a reserved port", source("v2", "22:5025"), []string{"port 22 is reserved", "dokku expose:set mail allowed-ports 22"}},
		{"a port that a process of the host listens on", source("v2", lead(listening, private)),
			[]string{fmt.Sprintf("public port %d (PORTS line 1)", listening), fmt.Sprintf("sport = :%d", listening)}},
		{"a port that a container publishes", source("v2", lead(published, private)), []string{"the container " + publisher, "publishes it"}},
		{"an address that the host has not", source("v2", "192.0.2.1:9025:5025"), []string{"this host has no address 192.0.2.1"}},
	}
	if h.worker() != "" {
		rows = append(rows, row{"the port that HAProxy keeps closed for held connections", source("v2", lead(1, private)),
			[]string{"public port 1 (PORTS line 1)", "HAProxy needs port 1", "choose another public port"}})
	}
	for _, test := range rows {
		h.run(test.name, func() {
			h.wants(h.refused("pre-build", "mail", test.src), test.wants...)
		})
	}
	h.answers(own, "v1")
	h.answers(operator, "v1")
	h.run("an exception of the operator's lets the app have a reserved port", func() {
		reserved := h.port()
		h.expose(0, "set", "--global", "reserved-ports", fmt.Sprint(reserved))
		h.refused("pre-build", "mail", source("v2", lead(reserved, private)))
		h.expose(0, "set", "mail", "allowed-ports", fmt.Sprint(reserved))
		h.push("mail", source("v2", lead(reserved, private)))
		h.answers(reserved, "v2")
		h.closed(own)
	})
}

// What would end a word, a line, a string or a section of HAProxy's configuration is in no value that an option takes, and no
// word of HAProxy's is an option.
func TestPushIsRefusedThatWouldWriteTheConfiguration(t *testing.T) {
	forEachEngine(t, pushIsRefusedThatWouldWriteTheConfiguration)
}

func pushIsRefusedThatWouldWriteTheConfiguration(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	var options []string
	for _, key := range []string{"process", "allow", "proxy-protocol", "accept-proxy", "max-connections", "rate", "idle-timeout", "balance"} {
		for _, value := range []string{
			"", "x;y", `x"y`, `x'y`, `x\y`, "$HOME", "${HOME}", "$(id)", "%[src]", "{x}", "10.0.0.1,", "10.0.0.1\u00a0bind", "10.0.0.1\vbind", "10.0.0.1\rbind",
			"10.0.0.1,10.0.0.2/33", "1/10s,1", "1s;", "-1.5", "..", "../x", "leastconn,x", "v1,v2", strings.Repeat("x", 64),
		} {
			options = append(options, key+"="+value)
		}
		options = append(options, key, key+" = x", strings.ToUpper(key)+"=1", key+"=1 "+key+"=1")
	}
	for _, word := range []string{"bind=:22", "server=10.0.0.1", "maxconn=1", "lua-load=/tmp/x", "tcp-request=reject", "errorfile=/etc/shadow", "source=0.0.0.0"} {
		options = append(options, word)
	}
	// All of them are told, as far as one answer tells that many.
	for some := range slices.Chunk(options, 20) {
		lines := make([]string, len(some))
		for i, option := range some {
			lines[i] = lead(public+uint16(i), private) + " " + option
		}
		said := h.refused("pre-build", "mail", source("v2", lines...))
		for i, option := range some {
			if !strings.Contains(said, fmt.Sprintf("PORTS:%d:", i+1)) {
				t.Errorf("%q is not refused in:\n%s", option, said)
			}
		}
	}
	h.answers(public, "v1")
}

// An image can hold anything where a repository has a file.
func TestImageIsRefusedWhosePortsIsNoFile(t *testing.T) {
	t.Parallel()
	h := start(t)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	for _, test := range []struct {
		name    string
		prepare func(path string) error
		wants   []string
	}{
		{"a link to a file of the host", func(path string) error { return os.Symlink("/etc/shadow", path) }, []string{"/app/PORTS", "symbolic link"}},
		{"a huge file", func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, huge)) },
			[]string{"/app/PORTS is too large", fmt.Sprint(huge)}},
	} {
		h.run(test.name, func() {
			ref, err := h.Image("example/mail", prepared("PORTS", test.prepare))
			h.must(err)
			said := h.refusedImage("mail", ref)
			h.wants(said, test.wants...)
			if strings.Contains(said, "root:") {
				h.t.Errorf("it tells what is in the file:\n%s", said)
			}
		})
	}
	h.answers(public, "v1")
}

// huge is the size of a file that nobody may read whole, though it has no content. Docker writes all of it, twice, and reads it to
// name it: a gigabyte takes it most of a minute, and is refused the same.
const huge = 64 << 20

// A port that the engine has on one address can be somebody else's on another one.
func TestPushIsRefusedThatWantsAnAddressBesideItsOwn(t *testing.T) {
	forEachEngine(t, pushIsRefusedThatWantsAnAddressBesideItsOwn)
}

func pushIsRefusedThatWantsAnAddressBesideItsOwn(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	port := h.port()
	h.push("mail", source("v1", fmt.Sprintf("127.0.0.1:%d:%d", port, private)))
	other, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
	h.must(err)
	h.wants(h.refused("pre-build", "mail", source("v2", lead(port, private))), fmt.Sprintf("public port %d (PORTS line 1)", port), "listens on it already")
	h.push("mail", source("v2", fmt.Sprintf("127.0.0.1:%d:%d", port, private)))
	h.must(other.Close())
	h.push("mail", source("v3", lead(port, private)))
	h.answers(port, "v3")
}

// An outgoing connection of this host has a port, too. That is told before the build, with both ways out, and by expose:check when it
// took the port while nobody listened.
func TestPushIsRefusedWhosePortAnOutgoingConnectionHas(t *testing.T) {
	forEachEngine(t, pushIsRefusedWhosePortAnOutgoingConnectionHas)
}

func pushIsRefusedWhosePortAnOutgoingConnectionHas(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	server, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	defer server.Close()
	port := h.port()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)}}
	conn, err := dialer.Dial("tcp", server.Addr().String())
	h.must(err)
	defer conn.Close()
	// Hooks that don't run as root can't see whose connection it is.
	wants := []string{
		fmt.Sprintf("public port %d (PORTS line 1)", port), server.Addr().String() + " has it as its local port", "use another public port",
		fmt.Sprintf("sysctl -w net.ipv4.ip_local_reserved_ports=%d ", port),
	}
	h.wants(h.refused("pre-build", "mail", source("v1", lead(port, private))), wants...)
}

// The kernel may give a public port to an outgoing connection while nobody listens on it. Nothing is wrong until it does.
func TestPublicPortsThatTheKernelGivesAwayAreNamed(t *testing.T) {
	t.Parallel()
	h := start(t)
	any, err := net.Listen("tcp", ":0")
	h.must(err)
	port := uint16(any.Addr().(*net.TCPAddr).Port)
	h.must(any.Close())
	reserve := fmt.Sprintf("sysctl -w net.ipv4.ip_local_reserved_ports=%d ", port)
	h.wants(h.push("mail", source("v1", lead(port, private))), reserve)
	h.answers(port, "v1")
	h.expose(0, "check", "mail")
	h.push("mail", source("v2", lead(h.port(), private)))
	h.wants(h.expose(0, "add", "mail", lead(port, private)).Stderr, reserve)
}

// What Dokku's proxies do for an app can't be told while its properties can't be read. That is told, and stops no other app.
func TestUnreadableProxyOfAnAppStopsNoOtherApp(t *testing.T) {
	t.Parallel()
	h := start(t)
	public, mapped := h.port(), h.port()
	h.must(h.CreateApp("blog"))
	broken := filepath.Join(h.Lib, "config", "ports", "blog", "map")
	h.must(os.MkdirAll(broken, 0o755))
	h.must(h.CreateApp("shop"))
	h.must(h.SetProperty("ports", "shop", "map", fmt.Sprintf("http:%d:5000", mapped)))
	h.wants(h.push("mail", source("v1", lead(public, private))), broken)
	h.answers(public, "v1")
	h.wants(h.refused("pre-build", "mail", source("v2", lead(mapped, private))), "the app shop")
}

// An image's EXPOSE makes Dokku's proxy listen on that port. Where it is another app's, nginx could not, and would take no
// change for any app any more. Only the build tells what is in the image.
func TestPushIsRefusedWhoseProxyWouldTakeAPublicPort(t *testing.T) {
	t.Parallel()
	h := start(t)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	h.must(h.CreateApp("blog"))
	h.must(h.SetProperty("ports", "blog", "map-detected", fmt.Sprintf("http:%d:%d", public, public)))
	h.wants(h.refused("post-release-builder", "blog", source("v1")),
		fmt.Sprintf("port %d for the app blog", public), "detected from EXPOSE", "the app mail has it (PORTS line 1", "dokku ports:set blog http:80:")
	h.answers(public, "v1")

	h.run("unless an operator lets the app have a port of the proxy's", func() {
		h.expose(0, "set", "mail", "allowed-ports", fmt.Sprint(public))
		h.push("blog", source("v1"))
	})
}

// prepared is a source tree with something else than a file called name.
func prepared(name string, prepare func(path string) error) rig.Source {
	src := source("v2")
	src.Prepare = func(dir string) error { return prepare(filepath.Join(dir, name)) }
	return src
}

// publish starts a container that is no app's and publishes the port. It returns the container's name.
func (h *host) publish(port uint16) string {
	h.t.Helper()
	ctx := h.t.Context()
	app, err := h.Docker.ContainerInspect(ctx, h.current("mail", "web.1"))
	h.must(err)
	// The label of its image has it removed with the host.
	inside := nat.Port(fmt.Sprint(private, "/tcp"))
	created, err := h.Docker.ContainerCreate(ctx, &container.Config{Image: app.Image, ExposedPorts: nat.PortSet{inside: {}}},
		&container.HostConfig{PortBindings: nat.PortMap{inside: {{HostIP: "127.0.0.1", HostPort: fmt.Sprint(port)}}}}, nil, nil, "")
	h.must(err)
	h.must(h.Docker.ContainerStart(ctx, created.ID, container.StartOptions{}))
	info, err := h.Docker.ContainerInspect(ctx, created.ID)
	h.must(err)
	return strings.TrimPrefix(info.Name, "/")
}

// A port that is taken between the check and the switch fails that deploy, and nobody else sees anything of it.
func TestPortTakenBeforeTheSwitchFailsThatDeployAlone(t *testing.T) {
	t.Parallel()
	h := start(t)
	own, other, wanted := h.port(), h.port(), h.port()
	h.push("mail", source("v1", lead(own, private)))
	h.push("chat", source("v1", lead(other, private)))
	l := h.load(other, 1, 5)
	old := h.current("mail", "web.1")

	var listener net.Listener
	var text strings.Builder
	err := h.Push("mail", source("v2", lead(own, private), lead(wanted, private)), said(&text), rig.Before(func(c rig.Call) bool {
		if c.Name == "post-deploy" {
			ln, err := net.Listen("tcp", fmt.Sprint(":", wanted))
			if err != nil {
				t.Error(err)
			}
			listener = ln
		}
		return true
	}))
	h.fails("post-deploy", err)
	h.wants(text.String(), fmt.Sprintf("mail: public port %d: ", wanted))
	info, err := h.Docker.ContainerInspect(t.Context(), old)
	if err != nil || !info.State.Running {
		t.Errorf("the old container does not run any more: %v", err)
	}
	if _, err := h.dial(own); err != nil {
		t.Errorf("the port that the app has had before: %v", err)
	}

	h.must(listener.Close())
	h.push("mail", source("v3", lead(own, private), lead(wanted, private)))
	h.answers(own, "v3")
	h.answers(wanted, "v3")
	h.judge(l)
}
