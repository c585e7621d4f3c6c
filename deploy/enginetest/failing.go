package enginetest

import (
	"net/netip"
	"slices"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/internal/wait"
)

// failing is about containers that cease to accept. Docker and the daemon are not here to tell whose address is whose, as when
// Docker is away and the daemon is delayed.
var failing = []testCase{
	{"a container that refuses is told to be down", func(b *bench) {
		one, two, listen := NewServer(b, "one"), NewServer(b, "two"), b.port()
		b.apply(quick("mail", listen, proven(one, two)...))
		b.down(listen)
		one.Refuse()
		b.down(listen, one)
		for range 10 {
			if got := greeted(b, local(listen)); got != "two" {
				b.Errorf("%s answered", got)
			}
		}
		two.Refuse()
		b.down(listen, one, two)
	}},
	{"another app's container at the address of one that went down gets nobody", func(b *bench) {
		mail, listen := NewServer(b, "mail"), b.port()
		r := quick("mail", listen, proven(mail)...)
		b.apply(r)
		mail.Refuse()
		held := dial(b, local(listen))
		b.down(listen, mail)
		chat := mail.replaced("chat")
		for range 5 {
			dial(b, local(listen)).closed()
		}
		held.closed()
		// A table says nothing of it that does not prove it, whatever else it changes.
		r.Servers = []deploy.Server{mail.server(false)}
		r.Hold *= 2
		b.apply(r, route("news", b.port(), proven(NewServer(b, "news"))...))
		b.down(listen, mail)
		dial(b, local(listen)).closed()
		chat.Refuse()
	}},
	{"a container that went down gets connections when a table proves it, those that wait first", func(b *bench) {
		mail, listen := NewServer(b, "mail"), b.port()
		r := quick("mail", listen, proven(mail)...)
		r.Hold = wait.Patience
		b.apply(r)
		for range 3 {
			mail.Refuse()
			held := dial(b, local(listen))
			b.down(listen, mail)
			mail.Listen()
			r.Servers = proven(mail)
			b.switchTo(r)
			if got := held.greeting(); got != "mail" {
				b.Errorf("%s answered", got)
			}
			b.down(listen)
			if got := greeted(b, local(listen)); got != "mail" {
				b.Errorf("%s answered", got)
			}
		}
	}},
	{"a container that is served need not be proven to go on", func(b *bench) {
		mail, listen := NewServer(b, "mail"), b.port()
		b.apply(quick("mail", listen, proven(mail)...))
		l := b.load(listen)
		for range 3 {
			b.apply(quick("mail", listen, mail.server(false)), route("news", b.port(), proven(NewServer(b, "news"))...))
			b.await(l)
			b.down(listen)
		}
		b.judge(l)
	}},
	{"without checks no container is down", func(b *bench) {
		mail, listen := NewServer(b, "mail"), b.port()
		r := route("mail", listen, proven(mail)...)
		r.HealthCheck = 0
		b.apply(r)
		mail.Refuse()
		held := dial(b, local(listen))
		b.serving(map[deploy.Key]service{listen: {App: "mail", Servers: []netip.AddrPort{mail.Addr}}})
		mail.Listen()
		if got := held.greeting(); got != "mail" {
			b.Errorf("%s answered", got)
		}
	}},
}

// quick is a route whose servers are checked often, and whose clients wait for a short time only.
func quick(app string, listen deploy.Key, servers ...deploy.Server) deploy.Route {
	r := route(app, listen, servers...)
	r.Hold, r.HealthCheck = time.Second, 100*time.Millisecond
	return r
}

// down waits until the engine says that these servers of a route are down, and no other one.
func (b *bench) down(listen deploy.Key, servers ...*Server) {
	b.Helper()
	var want []netip.AddrPort
	for _, s := range servers {
		want = append(want, s.Addr)
	}
	slices.SortFunc(want, netip.AddrPort.Compare)
	wait.Until(b, "the engine says what is down", func() bool {
		got := b.observe()[listen].Addresses(false)
		slices.SortFunc(got, netip.AddrPort.Compare)
		return slices.Equal(got, want)
	})
}

// replaced is another server, at the address of this one, which has gone.
func (s *Server) replaced(name string) *Server {
	s.t.Helper()
	other := Reserve(s.t, name)
	other.Addr = s.Addr
	other.Listen()
	return other
}
