package enginetest

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/portsfile"
)

// checking is about what an app notices of an engine's checks: nothing.
var checking = []testCase{
	{"a check leaves no connection at the server", func(b *bench) {
		for _, options := range []string{"", "proxy-protocol=v1", "proxy-protocol=v2"} {
			b.inSomeRound(func() error {
				app := newCounter(b)
				// Each is up when a check of its own has said so.
				routes := b.unproven(app.Server, 10, options)
				b.apply(routes...)
				b.servesAll(routes)
				// What was accepted before this client has been counted when it is greeted.
				dial(b, local(routes[0].Listen)).line()
				if n := app.accepted.Load(); n != 1 {
					return fmt.Errorf("with the options %q %d connections were accepted for one client", options, n)
				}
				return nil
			})
		}
	}},
	{"who waits for a server gets the only connection", func(b *bench) {
		app := newCounter(b)
		r := route("mail", b.port(), proven(app.Server)...)
		b.apply(r)
		b.inSomeRound(func() error {
			before := app.accepted.Load()
			app.refuseAndServe(r.Listen)
			if n := app.accepted.Load() - before; n != 1 {
				return fmt.Errorf("%d connections were accepted for one client", n)
			}
			return nil
		})
	}},
	{"checks throw nobody out who has the only session", func(b *bench) {
		app := newOneSession(b)
		r := route("mail", b.port(), proven(app)...)
		b.inSomeRound(func() error {
			b.apply(r)
			c := dial(b, local(r.Listen))
			c.greeting()
			others := b.unproven(app, 10, "")
			b.apply(append(others, r)...)
			b.servesAll(others)
			c.write("still here\n")
			if line, err := c.lines.ReadString('\n'); err != nil {
				return fmt.Errorf("the client hears %q and %w", line, err)
			}
			return nil
		})
	}},
	{"a port without checks has its clients' connections only", func(b *bench) {
		app := newOneShot(b)
		r := with(b, route("ftp", b.port(), proven(app.Server)...), "check=off")
		r.HealthCheck = 0
		b.apply(r)
		for i := range 3 {
			// In turn, the port is opened before its client comes and after.
			var early *client
			if i == 1 {
				early = dial(b, local(r.Listen))
			}
			app.Listen()
			c := early
			if c == nil {
				c = dial(b, local(r.Listen))
			}
			c.greeting()
			c.echo("hello")
			_ = c.conn.Close()
			if n := int(app.accepted.Load()); n != i+1 {
				b.Fatalf("%d connections were accepted for %d clients", n, i+1)
			}
		}
		serving, err := b.engine.Serving(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		// That nobody listens now says nothing of the container.
		if s := serving[r.Listen]; !slices.Contains(s.Servers, app.Addr) || s.Options.Check != portsfile.NoCheck {
			b.Errorf("it serves %+v, want %s without checks", s, app.Addr)
		}
	}},
}

// inSomeRound wants one of a few rounds to go well. A check is noticed when the host stops the engine for 200 ms between the server's answer
// and the reset, which machines that run tests do at times.
func (b *bench) inSomeRound(round func() error) {
	b.Helper()
	var err error
	for range 5 {
		if err = round(); err == nil {
			return
		}
	}
	b.Errorf("in none of five rounds, in the last one: %v", err)
}

// unproven are routes of an app with a server that is yet to be checked.
func (b *bench) unproven(s *Server, n int, options string) []deploy.Route {
	b.Helper()
	ports := make(map[uint16]bool)
	var routes []deploy.Route
	for len(routes) < n {
		listen := b.port()
		if ports[listen.Port] {
			continue
		}
		ports[listen.Port] = true
		r := with(b, route("checked", listen, s.server(false)), options)
		r.HealthCheck = 100 * time.Millisecond
		routes = append(routes, r)
	}
	return routes
}

// servesAll waits until the engine says that all servers of the routes are up.
func (b *bench) servesAll(routes []deploy.Route) {
	b.Helper()
	eventually(b, "all servers are up", func() bool {
		serving, err := b.engine.Serving(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		return !slices.ContainsFunc(routes, func(r deploy.Route) bool {
			return len(serving[r.Listen].Servers) != len(r.Servers)
		})
	})
}

// counter is a server that counts what it accepts.
type counter struct {
	*Server
	accepted atomic.Int32
}

func newCounter(b *bench) *counter {
	c := new(counter)
	c.Server = serve(b, "counter", func(conn net.Conn) {
		c.accepted.Add(1)
		c.echo(conn)
	})
	return c
}

// refuseAndServe has a client wait for the server, which then comes back.
func (c *counter) refuseAndServe(listen deploy.Listen) {
	c.t.Helper()
	c.Refuse()
	waiting := dial(c.t, local(listen))
	c.Listen()
	waiting.line()
	_ = waiting.conn.Close()
}

// newOneShot is a server that stops listening as soon as it has a connection, as FTP servers do on their passive ports. It does not
// listen yet.
func newOneShot(b *bench) *counter {
	c := &counter{Server: Reserve(b, "oneshot")}
	c.talk = func(conn net.Conn) {
		c.accepted.Add(1)
		c.Refuse()
		c.echo(conn)
	}
	return c
}

// newOneSession is a server with one session at a time: a new connection ends the former one.
func newOneSession(b *bench) *Server {
	var (
		mu   sync.Mutex
		last net.Conn
	)
	s := Reserve(b, "session")
	s.talk = func(conn net.Conn) {
		mu.Lock()
		if last != nil {
			_ = last.Close()
		}
		last = conn
		mu.Unlock()
		s.echo(conn)
	}
	s.Listen()
	return s
}
