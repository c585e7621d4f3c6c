package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/load"
)

// patience bounds every wait: it is what a broken engine costs, not a measure of a good one.
const patience = 60 * time.Second

// clientOf is a client of the daemon whose control socket is there.
func clientOf(control string) *Client {
	return NewClient(ClientConfig{Control: control, Version: "test", Start: "START", Restart: "RESTART"}, nil)
}

// observe is what an engine counts.
func observe(t testing.TB, e deploy.Engine) deploy.Observation {
	t.Helper()
	o, err := e.Observe(t.Context(), deploy.Counters)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// newServer is a server that ends with the test, and its connections with it.
func newServer(t testing.TB) *Server {
	t.Helper()
	s, err := NewServer(slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(expired()) })
	return s
}

// runDaemon runs a daemon in this process, which ends with the test.
func runDaemon(t testing.TB, o Options) *Client {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready := make(chan struct{})
	ended := make(chan error, 1)
	o.Version = "test"
	o.Deadline = func() time.Duration { return patience }
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	reconcile := o.Reconcile
	o.Reconcile = func(ctx context.Context, local *Local) error {
		close(ready)
		if reconcile == nil {
			return nil
		}
		return reconcile(ctx, local)
	}
	go func() { ended <- Run(ctx, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("the daemon ended: %v", err)
	}
	return clientOf(o.Control)
}

func apply(t testing.TB, e deploy.Engine, routes ...deploy.Route) {
	t.Helper()
	if _, err := e.Apply(t.Context(), deploy.Table{Routes: routes}); err != nil {
		t.Fatal(err)
	}
}

func routeTo(app string, port uint16, servers ...*enginetest.Server) deploy.Route {
	r := deploy.Route{
		App: app, Process: "web", Frontend: deploy.Frontend{IP: netip.MustParseAddr("127.0.0.1"), Port: port},
		Hold: 10 * time.Second, HealthCheck: 2 * time.Second,
	}
	for _, s := range servers {
		r.Servers = append(r.Servers, deploy.Server{Container: s.Name, Dyno: "web.1", Addr: s.Addr, Proven: true})
	}
	return r
}

// routesTo are many routes of an app.
func routesTo(t testing.TB, n int, app string, servers ...*enginetest.Server) []deploy.Route {
	t.Helper()
	ports := make(map[uint16]bool)
	for len(ports) < n {
		ports[enginetest.FreePort(t)] = true
	}
	var routes []deploy.Route
	for port := range ports {
		routes = append(routes, routeTo(app, port, servers...))
	}
	return routes
}

// client is a connection to a public port.
type client struct {
	t     testing.TB
	conn  *net.TCPConn
	lines *bufio.Reader
}

func dialPort(t testing.TB, port uint16) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return newClient(t, conn.(*net.TCPConn))
}

func newClient(t testing.TB, conn *net.TCPConn) *client {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{t, conn, bufio.NewReader(conn)}
}

// greeting is the name of who answers.
func (c *client) greeting() string {
	c.t.Helper()
	line, err := c.lines.ReadString('\n')
	if err != nil {
		c.t.Fatalf("no greeting: %v", err)
	}
	name, _, _ := strings.Cut(line, " ")
	return name
}

func (c *client) echo() {
	c.t.Helper()
	if _, err := c.conn.Write([]byte("hello\n")); err != nil {
		c.t.Fatal(err)
	}
	if line, err := c.lines.ReadString('\n'); err != nil || line != "hello\n" {
		c.t.Fatalf("the echo is %q, %v", line, err)
	}
}

// awaitEnd waits for the connection's end.
func (c *client) awaitEnd() error {
	c.t.Helper()
	_, err := c.lines.ReadByte()
	if err == nil {
		c.t.Fatal("there is something to read, want the end")
	}
	return err
}

func startLoad(t testing.TB, port uint16, openers, holders int) *load.Load {
	t.Helper()
	l, err := load.Start(t.Context(), load.Config{
		Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Openers: openers, Holders: holders, Timeout: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Stop() })
	return l
}

// judge ends the clients, none of which may have seen anything wrong.
func judge(t testing.TB, l *load.Load, holders int) load.Report {
	t.Helper()
	r := l.Stop()
	if r.Failed() > 0 || r.Held.Broken > 0 || r.Held.Open != holders {
		var text bytes.Buffer
		t.Error(errors.Join(r.Print(&text)), r.Summary(), text.String())
	}
	return r
}

func await(t testing.TB, l *load.Load, n int) {
	t.Helper()
	if err := l.Await(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

// onOldServers counts the connections of an app on servers that are no longer current, in predecessors too.
func onOldServers(s deploy.Observation, app string) (n int) {
	for _, r := range s.Routes {
		for _, server := range r.Servers {
			if r.App == app && server.Old {
				n += server.Connections
			}
		}
	}
	return n
}
