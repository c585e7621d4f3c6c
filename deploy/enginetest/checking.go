package enginetest

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"dokku-expose/deploy"
)

// checking is about what an app notices of an engine's checks: nothing.
var checking = []testCase{
	{"a check leaves no connection at the server", func(b *bench) {
		for _, options := range []string{"", "proxy-protocol=v1", "proxy-protocol=v2"} {
			b.inSomeRound(func() error {
				app := newCounter(b)
				routes, witness := b.watched(app.Server, 10, options)
				b.check(witness, routes)
				// What was accepted before this client has been counted when it is greeted.
				dial(b, local(routes[0].Key)).line()
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
			app.refuseAndServe(b, r)
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
			c := dial(b, local(r.Key))
			c.greeting()
			others, witness := b.watched(app, 10, "")
			b.check(witness, others, r)
			c.write("still here\n")
			if line, err := c.lines.ReadString('\n'); err != nil {
				return fmt.Errorf("the client hears %q and %w", line, err)
			}
			return nil
		})
	}},
}

// checkless is about the option check.
var checkless = []testCase{
	{"a port without checks has its clients' connections only", func(b *bench) {
		app := newOneShot(b)
		r := with(b, route("ftp", b.port(), proven(app.Server)...), "check=off")
		r.HealthCheck = 0
		b.apply(r)
		for i := range 3 {
			// In turn, the port is opened before its client comes and after.
			var early *client
			if i == 1 {
				early = dial(b, local(r.Key))
			}
			app.Listen()
			c := early
			if c == nil {
				c = dial(b, local(r.Key))
			}
			c.greeting()
			c.echo("hello")
			_ = c.conn.Close()
			if n := int(app.accepted.Load()); n != i+1 {
				b.Fatalf("%d connections were accepted for %d clients", n, i+1)
			}
		}
		// That nobody listens now says nothing of the container.
		if s := b.observe()[r.Key]; !slices.Contains(s.Addresses(true), app.Addr) || s.Options.Check != deploy.NoCheck {
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

// watched are routes of an app to s, and to a witness of their checks.
func (b *bench) watched(s *Server, n int, options string) (routes []deploy.Route, witness *Server) {
	b.Helper()
	witness = NewServer(b, "witness")
	for i := range n {
		listen := deploy.Key{IP: netip.AddrFrom4([4]byte{127, 7, 1, byte(i + 1)}), Port: FreePort(b)}
		routes = append(routes, with(b, quick("checked", listen, proven(s, witness)...), options))
	}
	return routes, witness
}

// check applies watched routes and others, and waits until the servers of the former have been checked again and again: the witness is
// found down each time, and stays so in the end.
func (b *bench) check(witness *Server, routes []deploy.Route, others ...deploy.Route) {
	b.Helper()
	for range 3 {
		b.apply(slices.Concat(routes, others)...)
		witness.Refuse()
		for _, r := range routes {
			b.down(r.Key, witness)
		}
		witness.Listen()
	}
}

// counter is a server that counts what it accepts.
type counter struct {
	*Server
	accepted atomic.Int32
}

func newCounter(b *bench) *counter {
	c := &counter{Server: Reserve(b, "counter")}
	c.talk = func(conn net.Conn) {
		c.accepted.Add(1)
		c.echo(conn)
	}
	c.Listen()
	return c
}

// refuseAndServe has a client of the route wait for the server, which then comes back.
func (c *counter) refuseAndServe(b *bench, r deploy.Route) {
	c.t.Helper()
	c.Refuse()
	waiting := dial(c.t, local(r.Key))
	b.down(r.Key, c.Server)
	c.Listen()
	b.switchTo(r)
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
