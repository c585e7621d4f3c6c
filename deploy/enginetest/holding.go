package enginetest

import (
	"time"

	"dokku-expose/deploy"
	"dokku-expose/internal/wait"
)

// holding is about connections that come while no container is up.
var holding = []testCase{
	{"a connection waits for a container", func(b *bench) {
		listen := b.port()
		b.apply(route("mail", listen))
		var waiting []*client
		for range 20 {
			waiting = append(waiting, dial(b, local(listen)))
		}
		b.switchTo(route("mail", listen, proven(NewServer(b, "v1"))...))
		for _, c := range waiting {
			if got := c.greeting(); got != "v1" {
				b.Errorf("%s answered", got)
			}
			c.echo("at last")
		}
	}},
	{"a connection waits while containers are exchanged", func(b *bench) {
		listen := b.port()
		b.apply(route("mail", listen, proven(NewServer(b, "v1"))...))
		b.switchTo(route("mail", listen))
		b.serving(map[deploy.Key]service{listen: {App: "mail"}})
		c := dial(b, local(listen))
		b.switchTo(route("mail", listen, proven(NewServer(b, "v2"))...))
		if got := c.greeting(); got != "v2" {
			b.Errorf("%s answered", got)
		}
	}},
	{"a connection waits while another app gets a port", func(b *bench) {
		listen, v1 := b.port(), NewServer(b, "v1")
		b.apply(route("mail", listen))
		c := dial(b, local(listen))
		b.apply(route("mail", listen, proven(v1)...), route("news", b.port(), proven(NewServer(b, "news"))...))
		if got := c.greeting(); got != "v1" {
			b.Errorf("%s answered", got)
		}
	}},
	{"a connection waits on after another app got a port", func(b *bench) {
		mail, chat, listen := route("mail", b.port()), route("chat", b.port()), b.port()
		mail.Hold, chat.Hold = wait.Patience, wait.Patience
		b.apply(mail, chat)
		one, two := dial(b, local(mail.Key)), dial(b, local(chat.Key))
		one.write("early bird\n")
		for range 3 {
			b.apply(mail, chat, route("news", listen))
			b.apply(mail, chat)
		}
		mail.Servers, chat.Servers = proven(NewServer(b, "mail")), proven(NewServer(b, "chat"))
		b.switchTo(mail, chat)
		for name, c := range map[string]*client{"mail": one, "chat": two} {
			if got := c.greeting(); got != name {
				b.Errorf("%s answered a connection to %s", got, name)
			}
		}
		if got := one.line(); got != "early bird" {
			b.Errorf("%q came back", got)
		}
	}},
	{"what the client says while it waits arrives", func(b *bench) {
		listen := b.port()
		b.apply(route("mail", listen))
		c := dial(b, local(listen))
		c.write("early bird\n")
		b.switchTo(route("mail", listen, proven(NewServer(b, "v1"))...))
		if got := c.greeting(); got != "v1" {
			b.Errorf("%s answered", got)
		}
		if got := c.line(); got != "early bird" {
			b.Errorf("%q came back", got)
		}
	}},
	{"a connection waits for a container that is not proven", func(b *bench) {
		next, listen := Reserve(b, "next"), b.port()
		b.apply(route("mail", listen, next.server(false)))
		c := dial(b, local(listen))
		next.Listen()
		b.switchTo(route("mail", listen, next.server(true)))
		if got := c.greeting(); got != "next" {
			b.Errorf("%s answered", got)
		}
	}},
	{"all containers die at once", func(b *bench) {
		one, two, three, listen := NewServer(b, "one"), NewServer(b, "two"), NewServer(b, "three"), b.port()
		b.apply(route("mail", listen, proven(one, two, three)...))
		for _, s := range []*Server{one, two, three} {
			s.Refuse()
		}
		var waiting []*client
		for range 20 {
			waiting = append(waiting, dial(b, local(listen)))
		}
		b.down(listen, one, two, three)
		two.Listen()
		b.switchTo(route("mail", listen, one.server(false), two.server(true), three.server(false)))
		for _, c := range waiting {
			if got := c.greeting(); got != "two" {
				b.Errorf("%s answered", got)
			}
		}
	}},
	{"no longer than the hold", func(b *bench) {
		r := route("mail", b.port())
		r.Hold = time.Second
		b.apply(r)
		dial(b, local(r.Key)).closed()
	}},
	{"without a hold, not at all", func(b *bench) {
		r := route("mail", b.port())
		r.Hold = 0
		b.apply(r)
		dial(b, local(r.Key)).closed()
		r.Servers = proven(NewServer(b, "v1"))
		b.switchTo(r)
		if got := greeted(b, local(r.Key)); got != "v1" {
			b.Errorf("%s answered", got)
		}
	}},
	{"an app without containers does not hold up others", func(b *bench) {
		down, up := route("down", b.port()), route("up", b.port(), proven(NewServer(b, "v1"))...)
		b.apply(down, up)
		for range 20 {
			dial(b, local(down.Key))
		}
		l := b.load(up.Key)
		b.await(l)
		b.judge(l)
	}},
	{"checks that are off", func(b *bench) {
		old, next := NewServer(b, "old"), NewServer(b, "next")
		r := route("mail", b.port(), old.server(false))
		r.HealthCheck = 0
		b.apply(r)
		if got := greeted(b, local(r.Key)); got != "old" {
			b.Errorf("%s answered", got)
		}
		r.Servers = []deploy.Server{next.server(false)}
		b.switchTo(r)
		if got := greeted(b, local(r.Key)); got != "next" {
			b.Errorf("%s answered", got)
		}
	}},
}
