// Package proxytest is what the tests of the built-in engine share: routes to servers of package enginetest, and clients of public ports.
package proxytest

import (
	"bufio"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
)

// Patience bounds every wait: it is what a broken engine costs, not a measure of a good one.
const Patience = 60 * time.Second

// Observe is the observation of an engine with its counters.
func Observe(t testing.TB, e deploy.Engine) deploy.Observation {
	t.Helper()
	o, err := e.Observe(t.Context(), deploy.Counters)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Apply applies a table of these routes.
func Apply(t testing.TB, e deploy.Engine, routes ...deploy.Route) {
	t.Helper()
	if _, err := e.Apply(t.Context(), deploy.Table{Routes: routes}); err != nil {
		t.Fatal(err)
	}
}

// RouteTo is an app's route from a port of 127.0.0.1.
func RouteTo(app string, port uint16, servers ...*enginetest.Server) deploy.Route {
	r := deploy.Route{
		App: app, Process: "web", Key: deploy.Key{IP: netip.MustParseAddr("127.0.0.1"), Port: port},
		Hold: 10 * time.Second, HealthCheck: 2 * time.Second,
	}
	for _, s := range servers {
		r.Servers = append(r.Servers, deploy.Server{Container: s.Name, Dyno: "web.1", Addr: s.Addr, Proven: true})
	}
	return r
}

// RoutesTo are n routes of an app, from free ports.
func RoutesTo(t testing.TB, n int, app string, servers ...*enginetest.Server) []deploy.Route {
	t.Helper()
	ports := make(map[uint16]bool)
	for len(ports) < n {
		ports[enginetest.FreePort(t)] = true
	}
	var routes []deploy.Route
	for port := range ports {
		routes = append(routes, RouteTo(app, port, servers...))
	}
	return routes
}

// Client is a connection to a public port.
type Client struct {
	Conn  *net.TCPConn
	Lines *bufio.Reader
	t     testing.TB
}

// Dial connects to a port of 127.0.0.1.
func Dial(t testing.TB, port uint16) *Client {
	t.Helper()
	conn, err := net.DialTimeout("tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String(), Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return NewClient(t, conn.(*net.TCPConn))
}

// NewClient is the client of a connection that is there already, which stays the caller's to close.
func NewClient(t testing.TB, conn *net.TCPConn) *Client {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	return &Client{Conn: conn, Lines: bufio.NewReader(conn), t: t}
}

// Greeting reads the greeting, and returns the server's name.
func (c *Client) Greeting() string {
	c.t.Helper()
	line, err := c.Lines.ReadString('\n')
	if err != nil {
		c.t.Fatalf("no greeting: %v", err)
	}
	name, _, _ := strings.Cut(line, " ")
	return name
}

// Echo has a line echoed.
func (c *Client) Echo() {
	c.t.Helper()
	if _, err := c.Conn.Write([]byte("hello\n")); err != nil {
		c.t.Fatal(err)
	}
	if line, err := c.Lines.ReadString('\n'); err != nil || line != "hello\n" {
		c.t.Fatalf("the echo is %q, %v", line, err)
	}
}

// AwaitEnd waits for the connection's end, and returns the error of that.
func (c *Client) AwaitEnd() error {
	c.t.Helper()
	_, err := c.Lines.ReadByte()
	if err == nil {
		c.t.Fatal("there is something to read, want the end")
	}
	return err
}

// OnOldServers counts the connections of an app on servers that are no longer current, in predecessors too.
func OnOldServers(o deploy.Observation, app string) (n int) {
	for _, r := range o.Routes {
		for _, server := range r.Servers {
			if r.App == app && server.Old {
				n += server.Connections
			}
		}
	}
	return n
}
