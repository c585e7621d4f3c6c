package enginetest

import (
	"io"
	"net"
	"time"

	"dokku-expose/deploy"
)

// halfClosing is about connections of which one side has ended.
var halfClosing = []testCase{
	{"clients that have gone are not kept", func(b *bench) {
		for _, options := range []string{"", "idle-timeout=10m", "accept-proxy=192.0.2.1"} {
			// It neither ends nor says a word, whatever its clients do.
			deaf := talker(b, "deaf", func(conn *net.TCPConn) {
				_, _ = io.WriteString(conn, "deaf\n")
				<-b.Context().Done()
			})
			// The next client is served when the one before it is not counted any more.
			r := with(b, halfClosed(b.port(), deaf), "max-connections=1 "+options)
			b.apply(r)
			for range 2 {
				c := dial(b, local(r.Key))
				c.greeting()
				_ = c.conn.Close()
			}
		}
	}},
	{"servers that have gone are not kept", func(b *bench) {
		brief := talker(b, "brief", func(conn *net.TCPConn) { _, _ = io.WriteString(conn, "brief\n") })
		r := with(b, halfClosed(b.port(), brief), "max-connections=1")
		b.apply(r)
		var clients []*client // They stay.
		for range 2 {
			c := dial(b, local(r.Key))
			c.greeting()
			clients = append(clients, c)
		}
		for _, c := range clients {
			c.closed()
		}
	}},
	{"what still moves data goes on", func(b *bench) {
		over := make(chan struct{})
		// One talks after its client has ended, the other one hears after it has ended itself.
		talk := talker(b, "talk", func(conn *net.TCPConn) {
			_, _ = io.WriteString(conn, "talk\n")
			_, _ = io.Copy(io.Discard, conn)
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
				case <-over:
					_, _ = io.WriteString(conn, "done\n")
					return
				}
				if _, err := io.WriteString(conn, "x"); err != nil {
					b.Errorf("a server whose client has only ended: %v", err)
					return
				}
			}
		})
		heard := make(chan string, 1)
		hear := talker(b, "hear", func(conn *net.TCPConn) {
			if err := conn.CloseWrite(); err != nil {
				b.Error(err)
			}
			words, _ := io.ReadAll(conn)
			heard <- string(words)
		})
		talking, hearing, clock := halfClosed(b.port(), talk), halfClosed(b.port(), hear), newClock(b)
		b.apply(talking, hearing, clock.route)
		listener, talker := dial(b, local(talking.Key)), dial(b, local(hearing.Key))
		// HAProxy drops a client that has ended, and sent nothing, before its server was reached.
		listener.greeting()
		if err := listener.conn.CloseWrite(); err != nil {
			b.Fatal(err)
		}
		talker.closed()
		said, received := "", make(chan string, 1)
		go func() {
			text, err := io.ReadAll(listener.lines)
			if err != nil {
				b.Errorf("a client that has ended and is still told something: %v", err)
			}
			received <- string(text)
		}()
		clock.during(2, func() {
			talker.write("x")
			said += "x"
		})
		close(over)
		if text := <-received; len(text) < len("xdone\n") || text[len(text)-5:] != "done\n" {
			b.Errorf("the client received %q, not all of it", text)
		}
		if err := talker.conn.CloseWrite(); err != nil {
			b.Fatal(err)
		}
		if got := <-heard; got != said {
			b.Errorf("the server heard %d of %d bytes", len(got), len(said))
		}
	}},
	{"a client that takes its time gets all of it", func(b *bench) {
		const size = 32 << 20
		full := talker(b, "full", func(conn *net.TCPConn) {
			_, _ = io.WriteString(conn, "full\n")
			if _, err := io.Copy(io.Discard, conn); err != nil {
				b.Error(err)
			}
			if _, err := conn.Write(make([]byte, size)); err != nil {
				b.Error(err)
			}
		})
		r, clock := halfClosed(b.port(), full), newClock(b)
		b.apply(r, clock.route)
		c := dial(b, local(r.Key))
		c.greeting()
		if err := c.conn.CloseWrite(); err != nil {
			b.Fatal(err)
		}
		clock.during(2, func() {})
		if n, err := io.Copy(io.Discard, c.lines); n != size || err != nil {
			b.Errorf("got %d of %d bytes, %v", n, size, err)
		}
	}},
	{"open connections are left alone, and where there is no limit half-closed ones, too", func(b *bench) {
		v1 := talker(b, "v1", func(conn *net.TCPConn) {
			_, _ = io.Copy(conn, conn)
			<-b.Context().Done()
		})
		open, endless, clock := halfClosed(b.port(), v1), halfClosed(b.port(), v1), newClock(b)
		endless.HalfClosed = -1
		b.apply(open, endless, clock.route)
		c, half := dial(b, local(open.Key)), dial(b, local(endless.Key))
		c.echo("hello")
		half.echo("hello")
		if err := half.conn.CloseWrite(); err != nil {
			b.Fatal(err)
		}
		clock.during(2, func() {})
		c.echo("still there")
		half.silent()
	}},
}

// halfClosed is a route to a talker that does not keep half-closed connections for long.
func halfClosed(listen deploy.Key, s *Server) deploy.Route {
	r := unchecked(listen, s)
	r.HalfClosed = 3 * time.Second
	return r
}

// clock tells how long half-closed connections may be idle.
type clock struct {
	b     *bench
	route deploy.Route
}

func newClock(b *bench) clock {
	deaf := talker(b, "clock", func(conn *net.TCPConn) {
		_, _ = io.WriteString(conn, "clock\n")
		<-b.Context().Done()
	})
	r := halfClosed(b.port(), deaf)
	r.App = "clock"
	return clock{b, r}
}

// during does something again and again, until connections that are half-closed and idle have ended, so many one after the other.
func (c clock) during(times int, do func()) {
	c.b.Helper()
	for range times {
		idle, ended := dial(c.b, local(c.route.Key)), make(chan error)
		// HAProxy drops a client that has ended, and sent nothing, before its server was reached.
		idle.greeting()
		if err := idle.conn.CloseWrite(); err != nil {
			c.b.Fatal(err)
		}
		go func() {
			_, err := io.ReadAll(idle.lines)
			ended <- err
		}()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for over := false; !over; {
			select {
			case err := <-ended:
				if err != nil {
					c.b.Fatalf("a connection that is half-closed and idle: %v", err)
				}
				over = true
			case <-tick.C:
				do()
			}
		}
	}
}
