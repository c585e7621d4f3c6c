package hooks_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dokku-expose/internal/load"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/wait"
)

const (
	// private is the port that the tests' apps listen on.
	private = 5025
	// linger is how long an app goes on with its connections after SIGTERM.
	linger = 2 * time.Second
)

// host is a Dokku host, and what tests ask of it.
type host struct {
	*rig.Host
	t *testing.T

	mu    sync.Mutex // guards loads
	loads []*load.Load
}

// start makes a host with the plugin and its HAProxy.
func start(t *testing.T, change ...func(*rig.Options)) *host {
	t.Helper()
	h := &host{t: t}
	own := func(o *rig.Options) {
		o.Stopping = func(_, container string) { h.retire(container) }
	}
	h.Host = newHost(t, append([]func(*rig.Options){own}, change...)...)
	return h
}

// retire tells all loads that a container is about to get SIGTERM.
func (h *host) retire(container string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.loads {
		l.Retired(container, linger)
	}
}

// settings are the plugin's global settings.
func settings(keysAndValues ...string) func(*rig.Options) {
	return func(o *rig.Options) {
		if o.Settings == nil {
			o.Settings = make(map[string]string)
		}
		for pair := range slices.Chunk(keysAndValues, 2) {
			o.Settings[pair[0]] = pair[1]
		}
	}
}

// builtin makes a host on which the built-in engine serves.
func builtin(o *rig.Options) {
	o.HAProxy = false
	settings("engine", "builtin")(o)
}

// withoutDaemon makes a host with HAProxy alone.
func withoutDaemon(o *rig.Options) { o.Daemon = false }

// forEachEngine runs a test on a host with HAProxy, and on one with the built-in engine, beside all other tests.
func forEachEngine(t *testing.T, test func(t *testing.T, engine func(*rig.Options))) {
	t.Helper()
	t.Parallel()
	for _, engine := range []struct {
		name   string
		change func(*rig.Options)
	}{
		{"haproxy", func(*rig.Options) {}},
		{"builtin", builtin},
	} {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			test(t, engine.change)
		})
	}
}

// run runs a part of the test, which sees what the parts before it have left.
func (h *host) run(name string, part func()) {
	h.t.Helper()
	outer := h.t
	defer func() { h.t = outer }()
	outer.Run(name, func(t *testing.T) {
		h.t = t
		part()
	})
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// await waits until what must come is so.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	over := time.After(wait.Patience)
	for !is() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatalf("%s: not after %s", what, wait.Patience)
		}
	}
}

// port is a public port that nobody has.
func (h *host) port() uint16 {
	h.t.Helper()
	port, err := h.FreePort()
	h.must(err)
	return port
}

// lead is a line of a PORTS file.
func lead(public, private uint16) string { return fmt.Sprintf("%d:%d", public, private) }

// source is an app that listens on the port private, and has a PORTS file of these lines; without any it has none.
func source(version string, lines ...string) rig.Source {
	src := rig.Source{Version: version, Listen: []uint16{private}, Env: map[string]string{"LINGER": linger.String()}}
	if len(lines) > 0 {
		src.Files = map[string]string{"PORTS": strings.Join(lines, "\n") + "\n"}
	}
	return src
}

// lingering is a source whose app goes on with its connections for longer than any test takes.
func lingering(version string, lines ...string) rig.Source {
	src := source(version, lines...)
	src.Env["LINGER"] = "10m"
	return src
}

// said collects what the plugin prints in one command.
func said(into *strings.Builder) rig.Option {
	var mu sync.Mutex
	return rig.After(func(_ rig.Call, r rig.Result) {
		mu.Lock()
		defer mu.Unlock()
		into.WriteString(r.Stdout + r.Stderr)
	})
}

// push pushes, and returns what the plugin said.
func (h *host) push(app string, src rig.Source, opts ...rig.Option) string {
	h.t.Helper()
	var text strings.Builder
	h.must(h.Push(app, src, append(opts, said(&text))...))
	return text.String()
}

// refused pushes what must be refused by the trigger, with nothing of the plugin's changed. It returns what the plugin said.
func (h *host) refused(trigger, app string, src rig.Source, opts ...rig.Option) string {
	h.t.Helper()
	before, unmoved := h.files(), h.unmoved()
	var text strings.Builder
	h.fails(trigger, h.Push(app, src, append(opts, said(&text))...))
	if after := h.files(); !maps.Equal(before, after) {
		h.t.Errorf("the files of the plugin have changed from\n%v\nto\n%v", before, after)
	}
	unmoved()
	return text.String()
}

// unmoved notes where all ports lead and who serves them. The function that it returns wants both to be the same still.
func (h *host) unmoved() func() {
	h.t.Helper()
	list := func() string {
		result, err := h.Command("list", "--format", "json")
		h.must(err)
		var mappings []map[string]any
		h.must(json.Unmarshal([]byte(result.Stdout), &mappings))
		for _, m := range mappings {
			delete(m, "tls") // An engine may count a client that has left when it is asked already.
		}
		text, err := json.MarshalIndent(mappings, "", "  ")
		h.must(err)
		return string(text)
	}
	routes, worker := list(), h.worker()
	return func() {
		h.t.Helper()
		if now := list(); now != routes {
			h.t.Errorf("the ports lead elsewhere; it was\n%s\nand is\n%s", routes, now)
		}
		if now := h.worker(); now != worker {
			h.t.Errorf("HAProxy was reloaded: its worker was %s and is %s", worker, now)
		}
	}
}

// fails wants err to be that trigger's.
func (h *host) fails(trigger string, err error) {
	h.t.Helper()
	var failed *rig.TriggerError
	if !errors.As(err, &failed) || failed.Name != trigger {
		h.t.Fatalf("the command ended with %v, want an error of the trigger %s", err, trigger)
	}
}

// wants tells what is missing in a text.
func (h *host) wants(text string, parts ...string) {
	h.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			h.t.Errorf("no %q in:\n%s", part, text)
		}
	}
}

// files are the plugin's settings and what it keeps, by path; the lock, the password and the log aside, and the name of the engine,
// which a daemon that is slow to start writes down when it has.
func (h *host) files() map[string]string {
	h.t.Helper()
	files := make(map[string]string)
	for _, kind := range []string{"config", "data"} {
		root := filepath.Join(h.Lib, kind, rig.Plugin)
		h.must(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || slices.Contains([]string{"lock", "stats-password", "events.log", "engine"}, d.Name()) {
				return err
			}
			text, err := os.ReadFile(path)
			name, _ := filepath.Rel(h.Lib, path)
			files[name] = string(text)
			return err
		}))
	}
	return files
}

// traces are the files of the plugin that mention the word.
func (h *host) traces(word string) []string {
	h.t.Helper()
	var names []string
	for name, text := range h.files() {
		if strings.Contains(name, word) || strings.Contains(text, word) {
			names = append(names, name)
		}
	}
	return names
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

// answers wants that version on the public port, each time out of three.
func (h *host) answers(port uint16, version string) {
	h.t.Helper()
	for range 3 {
		c, err := h.dial(port)
		if err != nil {
			h.t.Errorf("public port %d: %v, want %s to answer", port, err, version)
			return
		}
		if c.version != version {
			h.t.Errorf("public port %d: %s answers, want %s", port, c.version, version)
		}
		_ = c.Close()
	}
}

// closed wants connections to the public ports to be refused at once.
func (h *host) closed(ports ...uint16) {
	h.t.Helper()
	for _, port := range ports {
		c, err := net.Dial("tcp", loopback(port).String())
		if err == nil {
			_ = c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			h.t.Errorf("public port %d: connecting gives %v, want it to be refused", port, err)
		}
	}
}

// expose runs `dokku expose:VERB ARGS` and wants that exit status.
func (h *host) expose(code int, verb string, args ...string) rig.Result {
	h.t.Helper()
	result, err := h.Command(verb, args...)
	h.must(err)
	if result.Code != code {
		h.t.Errorf("expose:%s %s: exit status %d, want %d\n%s%s", verb, strings.Join(args, " "), result.Code, code, result.Stdout, result.Stderr)
	}
	return result
}

// current is the container of a dyno.
func (h *host) current(app, dyno string) string {
	h.t.Helper()
	current, err := h.Containers(app)
	h.must(err)
	return current[dyno]
}

var workerPID = regexp.MustCompile(`(?m)^Pid: (\d+)$`)

// worker is HAProxy's process that takes connections. A reload makes another one. Without HAProxy it is "".
func (h *host) worker() string {
	h.t.Helper()
	if _, err := os.Stat(filepath.Join(h.Run, "stats.sock")); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	text := h.haproxySays("show info")
	m := workerPID.FindStringSubmatch(text)
	if m == nil {
		h.t.Fatalf("HAProxy answers: %s", text)
	}
	return m[1]
}

// haproxySays is HAProxy's answer to a command.
func (h *host) haproxySays(command string) string {
	h.t.Helper()
	c, err := net.Dial("unix", filepath.Join(h.Run, "stats.sock"))
	h.must(err)
	defer c.Close()
	h.must(c.SetDeadline(time.Now().Add(wait.Patience)))
	_, err = fmt.Fprintln(c, command)
	h.must(err)
	text, err := io.ReadAll(c)
	h.must(err)
	return string(text)
}

// containers are the ids of the current containers of an app.
func (h *host) containers(app string) []string {
	h.t.Helper()
	current, err := h.Containers(app)
	h.must(err)
	return slices.Collect(maps.Values(current))
}

// servedBy wants the public port to lead to these containers, to all of them and to no other one.
func (h *host) servedBy(port uint16, ids ...string) {
	h.t.Helper()
	want := make(map[string]bool)
	for _, id := range ids {
		want[id[:12]] = true
	}
	// Connections that stay go to the container with the fewest: as many as this leave none out.
	got := make(map[string]bool)
	for range 8 * len(want) {
		c, err := h.dial(port)
		if err != nil {
			h.t.Errorf("public port %d: %v", port, err)
			return
		}
		defer c.Close()
		got[c.container] = true
	}
	if !maps.Equal(got, want) {
		h.t.Errorf("public port %d leads to the containers %v, want %v",
			port, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}
