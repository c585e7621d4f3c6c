package enginetest

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/internal/wait"
)

// crowding is about the option max-connections.
var crowding = []testCase{
	{"one more than max-connections waits", func(b *bench) {
		v1 := NewServer(b, "v1")
		r := with(b, route("mail", b.port(), proven(v1)...), "max-connections=2")
		other := route("news", b.port(), proven(NewServer(b, "news"))...)
		b.apply(r, other)
		one, two := dial(b, local(r.Key)), dial(b, local(r.Key))
		one.greeting()
		two.greeting()
		three, four := dial(b, local(r.Key)), dial(b, local(r.Key))
		three.write("early bird\n")
		three.silent()
		four.silent()
		if got := greeted(b, local(other.Key)); got != "news" {
			b.Errorf("%s answered", got)
		}
		if err := one.conn.Close(); err != nil {
			b.Fatal(err)
		}
		three.greeting()
		if got := three.line(); got != "early bird" {
			b.Errorf("%q came back", got)
		}
		four.silent()
		two.echo("still there")
		_ = two.conn.Close()
		four.greeting()
	}},
	{"many that wait, of both families", func(b *bench) {
		b.needIPv6()
		r := with(b, route("mail", b.port(), proven(NewServer(b, "v1"))...), "max-connections=3")
		b.apply(r)
		// One of each family is too many while as many are open as there may be.
		one, two, three := dialFrom(b, loopback, r.Key), dialFrom(b, loopback6, r.Key), dialFrom(b, loopback, r.Key)
		for _, c := range []*client{one, two, three} {
			c.greeting()
		}
		four, six := dialFrom(b, loopback, r.Key), dialFrom(b, loopback6, r.Key)
		four.silent()
		six.silent()
		for _, c := range []*client{one, two, three, four, six} {
			_ = c.conn.Close()
		}
		var (
			clients sync.WaitGroup
			served  atomic.Int32
		)
		for i := range 50 {
			from := []netip.Addr{loopback, loopback6}[i%2]
			c := dialFrom(b, from, r.Key)
			clients.Go(func() {
				defer c.conn.Close()
				if line, err := c.lines.ReadString('\n'); err != nil {
					b.Errorf("client %d got %q, %v", i, line, err)
					return
				}
				served.Add(1)
			})
		}
		clients.Wait()
		if got := served.Load(); got != 50 {
			b.Errorf("%d of 50 were served", got)
		}
	}},
}

// hurrying is about the option rate.
var hurrying = []testCase{
	{"no more than the rate", func(b *bench) {
		b.needIPv6()
		r := with(b, route("mail", b.port(), proven(NewServer(b, "v1"))...), "rate=3/10s")
		other := with(b, route("news", b.port(), proven(NewServer(b, "news"))...), "rate=3/10s")
		b.apply(r, other)
		for _, from := range []netip.Addr{loopback, loopback6} {
			for range 3 {
				c := dialFrom(b, from, r.Key)
				c.greeting()
				c.echo("hello")
				_ = c.conn.Close()
			}
			for range 5 {
				b.rejected(from, r.Key)
			}
		}
		dialFrom(b, loopback2, r.Key).greeting()
		dialFrom(b, loopback, other.Key).greeting()
		// Attempts don't count: whoever goes on trying gets through again.
		wait.Until(b, "the time is over", func() bool {
			c, err := tryDialFrom(b, loopback, r.Key)
			if err != nil {
				return false
			}
			defer c.conn.Close()
			_, err = c.lines.ReadString('\n')
			return err == nil
		})
	}},
	{"a switch does not forgive", func(b *bench) {
		r := with(b, route("mail", b.port(), proven(NewServer(b, "v1"))...), "rate=2/10s")
		b.apply(r)
		greeted(b, local(r.Key))
		greeted(b, local(r.Key))
		r.Servers = proven(NewServer(b, "v2"))
		b.switchTo(r)
		b.rejected(loopback, r.Key)
	}},
}

// idling is about the option idle-timeout.
var idling = []testCase{
	{"no longer idle than idle-timeout", func(b *bench) {
		b.needIPv6()
		// One that echoes, one that only hears, one that only talks.
		echo := route("echo", b.port(), proven(NewServer(b, "v1"))...)
		hear, heard := route("hear", b.port()), make(chan struct{}, 1000)
		hear.Servers = proven(serve(b, "hear", func(conn net.Conn) {
			buffer := make([]byte, 1)
			for {
				if _, err := conn.Read(buffer); err != nil {
					return
				}
				heard <- struct{}{}
			}
		}))
		talk := route("talk", b.port())
		talk.Servers = proven(serve(b, "talk", func(conn net.Conn) {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				if _, err := conn.Write([]byte("x")); err != nil {
					return
				}
			}
		}))
		table := []deploy.Route{with(b, echo, "idle-timeout=2s"), with(b, hear, "idle-timeout=2s"), with(b, talk, "idle-timeout=2s")}
		b.apply(table...)

		busy, talking, listening := dial(b, local(echo.Key)), dial(b, local(hear.Key)), dial(b, local(talk.Key))
		busy.greeting()
		busy6 := dialFrom(b, loopback6, echo.Key)
		busy6.greeting()
		idle := make(chan struct{})
		go func() {
			defer close(idle)
			// Twice, so that the others have outlived the time for sure.
			for _, ip := range []netip.Addr{loopback, loopback6} {
				c, err := net.Dial("tcp", netip.AddrPortFrom(ip, echo.Key.Port).String())
				if err != nil {
					b.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(wait.Patience))
				if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
					b.Error("an idle connection stays")
				}
				_ = c.Close()
			}
		}()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for done := false; !done; {
			select {
			case <-idle:
				done = true
			case <-tick.C:
			}
			busy.echo("hello")
			busy6.echo("hello")
			talking.write("x")
			<-heard
			if _, err := listening.lines.ReadByte(); err != nil {
				b.Fatalf("a connection that hears something all the time: %v", err)
			}
		}
	}},
	{"a connection that waits for a container is not idle", func(b *bench) {
		r := with(b, route("mail", b.port()), "idle-timeout=1s")
		// Who is idle for as long, and a little longer, tells the time.
		idle := with(b, route("idle", b.port(), proven(NewServer(b, "idle"))...), "idle-timeout=1s")
		b.apply(r, idle)
		c := dial(b, local(r.Key))
		for range 2 {
			i := dial(b, local(idle.Key))
			i.greeting()
			i.closed()
		}
		c.silent()
		r.Servers = proven(NewServer(b, "v1"))
		b.switchTo(r, idle)
		c.greeting()
	}},
}

// changing is about options that change.
var changing = []testCase{
	{"each option is told back", func(b *bench) {
		var plain, asked []deploy.Route
		want, cert := make(map[deploy.Key]service), newCertificate(b)
		for _, o := range deploy.Registry() {
			r := route(o.Key, b.port(), proven(NewServer(b, o.Key))...)
			plain = append(plain, r)
			r.Options, r.Certificate = Sample(b, o), cert.Certificate
			asked = append(asked, r)
			want[r.Key] = service{App: r.App, Servers: []netip.AddrPort{r.Servers[0].Addr}, Options: r.Options}
		}
		b.apply(plain...)
		b.apply(asked...)
		b.serving(want)
	}},
	{"options come and go, and connections stay", func(b *bench) {
		b.needIPv6()
		plain := route("mail", b.port(), proven(NewServer(b, "v1"))...)
		b.apply(plain)
		c := dialFrom(b, loopback, plain.Key)
		c.greeting()
		for _, options := range []string{
			"max-connections=5", "rate=5/10s", "idle-timeout=10m", "balance=source", "accept-proxy=10.0.0.1", "allow=127.0.0.0/8",
			"allow=127.0.0.0/8 accept-proxy=10.0.0.1,2001:db8::/32 max-connections=5 rate=5/10s idle-timeout=10m balance=roundrobin", "",
		} {
			r := with(b, plain, options)
			b.apply(r)
			fresh := dialFrom(b, loopback, plain.Key)
			fresh.greeting()
			fresh.echo("hello")
			_ = fresh.conn.Close()
			c.echo("still there")
			b.serving(map[deploy.Key]service{plain.Key: {App: "mail", Servers: []netip.AddrPort{plain.Servers[0].Addr}, Options: r.Options}})
			if applied := b.apply(r); applied.Reload != "" || len(applied.Switched) > 0 {
				b.Errorf("%q applied again: %+v", options, applied)
			}
		}
	}},
}

// balancing is about which container gets a connection.
var balancing = []testCase{
	{"the one with the fewest", func(b *bench) {
		b.needIPv6()
		for _, options := range []string{"", "balance=leastconn"} {
			one, two := NewServer(b, "one"), NewServer(b, "two")
			r := with(b, route("mail", b.port(), proven(one)...), options)
			b.apply(r)
			count := make(map[string]int)
			open := func(n int) {
				for i := range n {
					count[dialFrom(b, []netip.Addr{loopback, loopback6}[i%2], r.Key).greeting()]++
				}
			}
			open(6)
			r.Servers = proven(one, two)
			b.switchTo(r)
			// Who has less gets more, and equals get equal shares.
			open(8)
			if count["one"] != 7 || count["two"] != 7 {
				b.Errorf("%q: connections of each: %v", options, count)
			}
		}
	}},
	{"each in turn", func(b *bench) {
		b.needIPv6()
		r := with(b, route("mail", b.port(), proven(NewServer(b, "one"), NewServer(b, "two"), NewServer(b, "three"))...), "balance=roundrobin")
		b.apply(r)
		got := make(map[string]int)
		for i := range 30 {
			c := dialFrom(b, []netip.Addr{loopback, loopback6}[i%2], r.Key)
			name := c.greeting()
			// Those with the fewest connections would be the other two.
			if got[name]++; name != "one" {
				_ = c.conn.Close()
			}
		}
		if got["one"] != 10 || got["two"] != 10 || got["three"] != 10 {
			b.Errorf("connections of each: %v", got)
		}
	}},
	{"the same for the same source", func(b *bench) {
		b.needIPv6()
		r := with(b, route("mail", b.port(), proven(NewServer(b, "one"), NewServer(b, "two"), NewServer(b, "three"))...), "balance=source")
		b.apply(r)
		sources := []netip.Addr{loopback6}
		for i := range 30 {
			sources = append(sources, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}))
		}
		chosen := make(map[netip.Addr]string)
		for range 3 {
			for _, from := range sources {
				got := dialFrom(b, from, r.Key).greeting()
				if chosen[from] != "" && got != chosen[from] {
					b.Errorf("%s answered %s, who was %s's", got, from, chosen[from])
				}
				chosen[from] = got
			}
		}
		if others := slices.DeleteFunc(slices.Clone(sources), func(s netip.Addr) bool { return chosen[s] == chosen[loopback6] }); len(others) == 0 {
			b.Errorf("%s is everybody's", chosen[loopback6])
		}
	}},
	{"by source, of containers that die and come back", func(b *bench) {
		one, two := NewServer(b, "one"), NewServer(b, "two")
		r := with(b, route("mail", b.port(), proven(one, two)...), "balance=source")
		b.apply(r)
		var sources []netip.Addr
		for i := range 20 {
			sources = append(sources, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}))
		}
		all := func(want string) {
			b.Helper()
			for _, from := range sources {
				if got := dialFrom(b, from, r.Key).greeting(); got != want {
					b.Fatalf("%s answered %s, want %s", got, from, want)
				}
			}
		}
		one.Refuse()
		all("two")
		two.Refuse()
		var waiting []*client
		for _, from := range sources {
			waiting = append(waiting, dialFrom(b, from, r.Key))
		}
		b.down(r.Key, one, two)
		one.Listen()
		r.Servers = []deploy.Server{one.server(true), two.server(false)}
		b.switchTo(r)
		for _, c := range waiting {
			if got := c.greeting(); got != "one" {
				b.Errorf("%s answered", got)
			}
		}
		all("one")
		three := NewServer(b, "three")
		r.Servers = proven(three)
		b.switchTo(r)
		all("three")
	}},
	{"by source, without checks", func(b *bench) {
		one, two := NewServer(b, "one"), NewServer(b, "two")
		r := with(b, route("mail", b.port(), proven(one, two)...), "balance=source")
		r.HealthCheck = 0
		b.apply(r)
		one.Refuse()
		for i := range 20 {
			if got := dialFrom(b, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}), r.Key).greeting(); got != "two" {
				b.Fatalf("%s answered", got)
			}
		}
	}},
}
