package servers

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy"
)

// patience bounds every wait.
const patience = time.Minute

// public is where engines listen, private where servers do: both may have the same port.
var public, private = netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")

// forEachEngine runs a test on both.
func forEachEngine(t *testing.T, test func(t *testing.T, e deploy.Engine)) {
	t.Run("haproxy", func(t *testing.T) { test(t, haproxytest.Start(t).Engine) })
	t.Run("builtin", func(t *testing.T) {
		s, err := proxy.NewServer(slog.New(slog.NewTextHandler(t.Output(), nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(t.Context()) })
		test(t, s)
	})
}

// route leads to a port of a server.
func route(t *testing.T, listen, to uint16, options string) deploy.Route {
	t.Helper()
	o, err := deploy.ParseOptions(options)
	if err != nil {
		t.Fatal(err)
	}
	r := deploy.Route{
		App: "app", Process: "web", Key: deploy.Key{IP: public, Port: listen}, Hold: 10 * time.Second, Options: o,
		Servers: []deploy.Server{{Container: "server", Dyno: "web.1", Addr: netip.AddrPortFrom(private, to), Proven: true}},
	}
	if o.Check != deploy.NoCheck {
		r.HealthCheck = 100 * time.Millisecond
	}
	return r
}

// checked makes the engine check a server again and again, and returns a public port that leads there. A witness beside it is found down
// each time, and stays so in the end.
func checked(t *testing.T, e deploy.Engine, to uint16, options string) uint16 {
	t.Helper()
	witness := enginetest.NewServer(t, "witness")
	var table deploy.Table
	ports := make(map[uint16]bool)
	for len(table.Routes) < 10 {
		if port := freePort(t); !ports[port] {
			ports[port] = true
			r := route(t, port, to, options)
			r.Servers = append(r.Servers, deploy.Server{Container: "witness", Dyno: "web.2", Addr: witness.Addr, Proven: true})
			table.Routes = append(table.Routes, r)
		}
	}
	for range 3 {
		apply(t, e, table.Routes...)
		witness.Refuse()
		wait.Until(t, "each of them has been checked", func() bool {
			o, err := e.Observe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			serving := o.Serving()
			return !slices.ContainsFunc(table.Routes, func(r deploy.Route) bool {
				return !slices.Contains(serving[r.Key].Addresses(false), witness.Addr)
			})
		})
		witness.Listen()
	}
	return table.Routes[0].Key.Port
}

func apply(t *testing.T, e deploy.Engine, routes ...deploy.Route) {
	t.Helper()
	if _, err := e.Apply(t.Context(), deploy.Table{Routes: routes}); err != nil {
		t.Fatal(err)
	}
}

// folder is a folder that other users can look into.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "servers")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, dir, name, format string, args ...any) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// run starts a server, which ends with the test.
func run(t *testing.T, program string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	command := exec.Command(program, args...)
	command.Stdout, command.Stderr, command.WaitDelay = &out, &out, time.Second
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", program, out.String())
		}
	})
}

// listens waits until somebody listens at an address, without connecting to it.
func listens(t *testing.T, port uint16) {
	t.Helper()
	addr := netip.AddrPortFrom(private, port)
	wait.Until(t, fmt.Sprintf("a server listens at %s", addr), func() bool {
		return len(deploy.Listening(t.Context(), []deploy.Address{{AddrPort: addr}})) == 0
	})
}

// dial connects to a public port.
func dial(t *testing.T, port uint16) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(public, port).String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// lines returns the lines of a file that have a word.
func lines(t *testing.T, path, word string) (found []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	return found
}

// freePort is one on which nobody listens, on any address.
func freePort(t *testing.T) uint16 { return enginetest.FreePort(t) }
