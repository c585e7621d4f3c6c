package enginetest

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/internal/load"
	"dokku-expose/internal/wait"
)

const (
	openers = 16
	holders = 50
	deploys = 20
)

// switching is about who gets the connections.
var switching = []testCase{
	{"serves and says so", func(b *bench) {
		v1, listen := NewServer(b, "v1"), b.port()
		applied := b.apply(route("mail", listen, proven(v1)...))
		if !slices.Equal(applied.Switched, []deploy.Key{listen}) {
			b.Errorf("switched %v, want %v", applied.Switched, listen)
		}
		c := dial(b, local(listen))
		if got := c.greeting(); got != "v1" {
			b.Errorf("%s answered", got)
		}
		c.echo("hello")
		b.serving(map[deploy.Key]service{listen: {App: "mail", Servers: []netip.AddrPort{v1.Addr}}})
	}},
	{"connections on old servers end when their route says so, and no others", func(b *bench) {
		v1, v2, cut, kept := NewServer(b, "v1"), NewServer(b, "v2"), b.port(), b.port()
		mail, news := route("mail", cut, proven(v1)...), route("news", kept, proven(v1)...)
		mail.CutOld = time.Nanosecond
		b.apply(mail, news)
		old, other := dial(b, local(cut)), dial(b, local(kept))
		old.greeting()
		other.greeting()
		mail.Servers, news.Servers = proven(v2), proven(v2)
		b.switchTo(mail, news)
		old.closed()
		other.echo("still there")
		if got := greeted(b, local(cut)); got != "v2" {
			b.Errorf("%s answered", got)
		}
	}},
	{"connections on old servers end also after another app got a port", func(b *bench) {
		v1, v2, cut, kept := NewServer(b, "v1"), NewServer(b, "v2"), b.port(), b.port()
		mail, news, chat := route("mail", cut, proven(v1)...), route("news", kept, proven(v1)...), route("chat", b.port(), proven(v1)...)
		mail.CutOld = time.Nanosecond
		b.apply(mail, news)
		old, other := dial(b, local(cut)), dial(b, local(kept))
		old.greeting()
		other.greeting()
		b.apply(mail, news, chat)
		old.echo("on a server of now")
		mail.Servers, news.Servers = proven(v2), proven(v2)
		b.switchTo(mail, news, chat)
		old.closed()
		other.echo("still there")
	}},
	{"a route that goes leaves its connections where they are, and one that comes back does with them what it says", func(b *bench) {
		v1, v2, listen := NewServer(b, "v1"), NewServer(b, "v2"), b.port()
		mail, news := route("mail", listen, proven(v1)...), route("news", b.port(), proven(v1)...)
		mail.CutOld = time.Nanosecond
		b.apply(mail, news)
		c := dial(b, local(listen))
		c.greeting()
		for range 2 {
			b.apply(news)
			greeted(b, local(news.Key))
			c.echo("on a server that is as it was")
		}
		mail.Servers = proven(v2)
		b.apply(mail, news)
		c.closed()
	}},
	{"the same table again changes nothing", func(b *bench) {
		table := []deploy.Route{route("mail", b.port(), proven(NewServer(b, "v1"))...), route("news", b.port())}
		b.apply(table...)
		applied := b.apply(table...)
		if len(applied.Switched) > 0 || applied.Reload != "" {
			b.Errorf("did %+v", applied)
		}
	}},
	{"deploys in a row, faster than connections end", func(b *bench) {
		listen := b.port()
		b.apply(route("mail", listen, proven(NewServer(b, "v1"))...))
		l := b.load(listen)
		l.Mark("v1")
		var held []*client
		for i := range deploys {
			version := fmt.Sprintf("v%d", i+2)
			next := NewServer(b, version)
			b.switchTo(route("mail", listen, proven(next)...))
			l.Mark(version)
			b.await(l)
			c := dial(b, local(listen))
			if got := c.greeting(); got != version {
				b.Errorf("%s answered, want %s", got, version)
			}
			held = append(held, c)
			b.serving(map[deploy.Key]service{listen: {App: "mail", Servers: []netip.AddrPort{next.Addr}}})
		}
		for _, c := range held {
			c.echo("still there")
		}
		if r := b.judge(l); len(r.Versions) != deploys+1 {
			b.Errorf("%d versions were seen, want %d", len(r.Versions), deploys+1)
		}
	}},
	{"deploys of three containers", func(b *bench) {
		listen := b.port()
		b.apply(route("mail", listen, proven(NewServer(b, "v1"), NewServer(b, "v1"), NewServer(b, "v1"))...))
		l := b.load(listen)
		l.Mark("v1")
		for i := range 5 {
			version := fmt.Sprintf("v%d", i+2)
			b.switchTo(route("mail", listen, proven(NewServer(b, version), NewServer(b, version), NewServer(b, version))...))
			l.Mark(version)
			b.await(l)
		}
		b.judge(l)
	}},
	{"scaling up and down", func(b *bench) {
		one, two, three, listen := NewServer(b, "one"), NewServer(b, "two"), NewServer(b, "three"), b.port()
		b.apply(route("mail", listen, proven(one)...))
		l := b.load(listen)
		b.apply(route("mail", listen, proven(one, two, three)...))
		wait.Until(b, "all three answer", func() bool {
			r := l.Report()
			return r.Containers["one"] > 0 && r.Containers["two"] > 0 && r.Containers["three"] > 0
		})
		b.switchTo(route("mail", listen, proven(two)...))
		for range 20 {
			if got := greeted(b, local(listen)); got != "two" {
				b.Fatalf("%s answered after scaling down to two", got)
			}
		}
		b.judge(l)
	}},
	{"another app's routes come and go", func(b *bench) {
		mail, listen := route("mail", b.port(), proven(NewServer(b, "v1"))...), b.port()
		b.apply(mail)
		l := b.load(mail.Key)
		for i := range 4 {
			name := fmt.Sprintf("news%d", i)
			b.apply(mail, route("news", listen, proven(NewServer(b, name))...))
			if got := greeted(b, local(listen)); got != name {
				b.Fatalf("%s answered, want %s", got, name)
			}
			b.await(l)
			b.apply(mail)
			refused(b, local(listen))
			b.await(l)
		}
		b.judge(l)
	}},
	{"ports and containers change at once", func(b *bench) {
		listen := b.port()
		b.apply(route("mail", listen, proven(NewServer(b, "v0"))...))
		l := b.load(listen)
		l.Mark("v0")
		for i := range 4 {
			version := fmt.Sprintf("v%d", i+1)
			s := NewServer(b, version)
			b.apply(route("mail", listen, proven(s)...), route("mail", b.port(), proven(s)...))
			l.Mark(version)
			b.await(l)
		}
		b.judge(l)
	}},
	{"an app that takes over another one's port", func(b *bench) {
		before, after, listen := NewServer(b, "before"), NewServer(b, "after"), b.port()
		b.apply(route("old", listen, proven(before)...))
		held := dial(b, local(listen))
		held.greeting()
		b.apply(route("new", listen, proven(after)...))
		for range 20 {
			if got := greeted(b, local(listen)); got != "after" {
				b.Fatalf("%s answered", got)
			}
		}
		held.echo("still there")
		b.serving(map[deploy.Key]service{listen: {App: "new", Servers: []netip.AddrPort{after.Addr}}})
	}},
	{"a container that is not proven gets nothing before it is", func(b *bench) {
		old, next, listen := NewServer(b, "old"), NewServer(b, "next"), b.port()
		b.apply(route("mail", listen, proven(old)...))
		b.switchTo(route("mail", listen, old.server(true), next.server(false)))
		l := b.load(listen)
		b.await(l)
		if n := l.Report().Containers["next"]; n > 0 {
			b.Errorf("it got %d connections", n)
		}
		b.switchTo(route("mail", listen, old.server(false), next.server(true)))
		wait.Until(b, "the new container gets connections", func() bool { return l.Report().Containers["next"] > 0 })
		b.judge(l)
	}},
	{"a container that dies", func(b *bench) {
		one, two, listen := NewServer(b, "one"), NewServer(b, "two"), b.port()
		b.apply(route("mail", listen, proven(one, two)...))
		// Before the clients come: what its queue held then would be lost with it, whatever an engine does.
		one.Refuse()
		l := b.load(listen)
		b.await(l)
		if r := b.judge(l); r.Containers["one"] > 0 {
			b.Errorf("the dead container answered %d times", r.Containers["one"])
		}
	}},
}

// service is what an engine says of one public address: the addresses that get new connections, and the others that the route leads to.
type service struct {
	App           string
	Servers, Down []netip.AddrPort
	Options       deploy.Options
	ClientCA      string
}

// observe is what the engine says that it serves.
func (b *bench) observe() map[deploy.Key]deploy.RouteState {
	b.Helper()
	o, err := b.engine.Observe(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return o.Serving()
}

// serving compares what the engine says of itself with want.
func (b *bench) serving(want map[deploy.Key]service) {
	b.Helper()
	got := make(map[deploy.Key]service)
	for listen, r := range b.observe() {
		if r.Process != "web" { // as that of all routes here
			b.Errorf("the process type of %s is %q", listen, r.Process)
		}
		if b.cert != nil {
			if r.Options.TLS != deploy.TerminateTLS {
				b.Errorf("the options of %s are %q", listen, r.Options)
			}
			r.Options.TLS = ""
		}
		got[listen] = service{r.App, r.Addresses(true), r.Addresses(false), r.Options, r.ClientCA}
	}
	if !reflect.DeepEqual(got, want) {
		b.Errorf("serving %v, want %v", got, want)
	}
}

// load runs clients against a public address.
func (b *bench) load(listen deploy.Key) *load.Load {
	b.Helper()
	config := load.Config{Addr: local(listen), Openers: openers, Holders: holders}
	if b.cert != nil {
		config.TLS = b.cert.client
	}
	l, err := load.Start(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Stop() })
	return l
}

// await waits until clients have seen a bit of what is in force now.
func (b *bench) await(l *load.Load) {
	b.Helper()
	if err := l.Await(b.Context(), 2*openers); err != nil {
		b.Fatal(err)
	}
}

// judge ends the clients, none of which may have seen anything wrong.
func (b *bench) judge(l *load.Load) load.Report {
	b.Helper()
	r := l.Stop()
	if r.Failed() > 0 || r.Held.Broken > 0 || r.Held.Open != holders {
		var text bytes.Buffer
		if err := r.Print(&text); err != nil {
			b.Error(err)
		}
		b.Errorf("%s\n%s", r.Summary(), text.String())
	}
	return r
}
