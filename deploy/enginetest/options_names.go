package enginetest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/internal/load"
	"dokku-expose/internal/testcert"
	"dokku-expose/internal/wait"
)

// RunNames tests routes that share a frontend by their server names. start is as for [Run].
func RunNames(t *testing.T, start func(t *testing.T) deploy.Engine) {
	for _, c := range naming {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(&bench{T: t, engine: start(t)})
		})
	}
}

// naming is about routes that share a frontend by their server names.
var naming = []testCase{
	{"who is asked for answers", func(b *bench) {
		n := newNames(b)
		n.apply(n.ends("exact", "mail.example.com"), n.ends("wild", "*.example.com"), n.passes("through", "through.example.com"), n.ends("rest", ""))
		for name, want := range map[string]string{
			"mail.example.com": "exact", "MAIL.Example.COM": "exact", "other.example.com": "wild", "a.b.example.com": "rest", "example.com": "rest",
			"through.example.com": "through", "Through.example.com": "through", "mail.example.org": "rest", "": "rest", "192.0.2.1": "rest",
		} {
			if got := n.asks(name); got != want {
				b.Errorf("%q is answered by %s, want %s", name, got, want)
			}
		}
	}},
	{"a name that nobody has is told so", func(b *bench) {
		n := newNames(b)
		n.apply(n.ends("mail", "mail.example.com"), n.passes("news", "news.example.com"), n.ends("wild", "*.b.example.com"))
		for _, name := range []string{"other.example.com", "a.mail.example.com", "b.example.com", "a.a.b.example.com", "localhost", ""} {
			_, err := n.dial(name)
			if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
				b.Errorf("%q hears %v, want the alert of an unrecognized name", name, err)
			}
		}
		// A name of TLS has no dot at its end, and nobody has this one.
		c := dial(b, local(n.port))
		c.write(hello(b, "mail.example.com."))
		if answer, _ := io.ReadAll(c.lines); len(answer) > 0 && answer[0] != alertRecord {
			b.Errorf("a name with a dot at its end is answered with %x", answer)
		}
		if got := n.asks("mail.example.com"); got != "mail" {
			b.Errorf("%s answers", got)
		}
		if o, err := b.engine.Observe(b.Context(), deploy.Counters); err != nil || o.Unrecognized < 3 {
			b.Errorf("%d unrecognized names are counted, %v", o.Unrecognized, err)
		}
	}},
	{"a client that does not say TLS is closed", func(b *bench) {
		n := newNames(b)
		n.apply(n.ends("mail", "mail.example.com"), n.passes("rest", ""))
		plain, silent, half := dial(b, local(n.port)), dial(b, local(n.port)), dial(b, local(n.port))
		plain.write("EHLO example.com\r\n")
		half.write("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
		for _, text := range []string{"EHLO example.com\r\n\r\n", "\x16\x02\x00\x00\x05hello", "\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", "\x80\x2e\x01\x03\x01"} {
			c := dial(b, local(n.port))
			c.write(text)
			if answer, _ := io.ReadAll(c.lines); len(answer) > 0 && answer[0] != alertRecord {
				b.Errorf("%q is answered with %q", text, answer)
			}
		}
		for _, c := range []*client{plain, silent, half} {
			c.closed()
		}
		o, err := b.engine.Observe(b.Context(), deploy.Counters)
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range o.Routes {
			if r.Total > 0 {
				b.Errorf("%s counts %d connections", r.Key, r.Total)
			}
		}
		if got := n.asks("mail.example.com"); got != "mail" {
			b.Errorf("%s answers", got)
		}
	}},
	{"nothing is read where there are no names", func(b *bench) {
		r := with(b, route("mail", b.port(), proven(NewServer(b, "v1"))...), "tls=passthrough")
		b.apply(r)
		c := dial(b, local(r.Key))
		c.echoAs("v1")
	}},
	{"a ClientHello of a named route may come in pieces, and be large", func(b *bench) {
		n := newNames(b)
		n.apply(n.ends("mail", "mail.example.com"), n.passes("news", "news.example.com"))
		for name, want := range map[string]string{"mail.example.com": "mail", "news.example.com": "news"} {
			c := dial(b, local(n.port))
			c.use(tls.Client(bytewise{c.tcp}, n.config(name)))
			c.echoAs(want)
			large := n.config(name)
			for i := range 50 {
				large.NextProtos = append(large.NextProtos, fmt.Sprintf("%0240d", i))
			}
			c = dial(b, local(n.port))
			// No protocol is agreed on, which is none of what this is about.
			if err := c.secure(large); err != nil && !strings.Contains(err.Error(), "application protocol") {
				b.Errorf("a ClientHello of 12 KB for %s: %v", name, err)
			}
		}
	}},
	{"a name is switched under load, and no other notices", func(b *bench) {
		n := newNames(b)
		mail, news, rest := n.ends("mail", "mail.example.com"), n.passes("news", "news.example.com"), n.ends("rest", "")
		n.apply(mail, news, rest)
		loads := []*load.Load{n.load("mail.example.com"), n.load("news.example.com")}
		for range 5 {
			mail.Servers, news.Servers = proven(NewServer(b, "mail")), proven(NewTLSServer(b, "news", n.cert))
			b.switchTo(mail, news, rest)
			for _, l := range loads {
				b.await(l)
			}
		}
		for _, l := range loads {
			b.judge(l)
		}
	}},
	{"names come and go, and connections stay", func(b *bench) {
		n := newNames(b)
		rest := n.ends("rest", "")
		// Alone it needs no name.
		n.apply(rest)
		alone, err := n.dial("")
		if err != nil {
			b.Fatal(err)
		}
		alone.echoAs("rest")
		l := n.load("")
		mail, news := n.ends("mail", "mail.example.com"), n.passes("news", "news.example.com")
		n.apply(rest, mail, news)
		named, err := n.dial("mail.example.com")
		if err != nil {
			b.Fatal(err)
		}
		named.echoAs("mail")
		passed, err := n.dial("news.example.com")
		if err != nil {
			b.Fatal(err)
		}
		passed.echoAs("news")
		b.await(l)
		n.apply(rest, news)
		if got := n.asks("mail.example.com"); got != "rest" {
			b.Errorf("a name that is gone is answered by %s", got)
		}
		n.apply(rest)
		b.await(l)
		b.judge(l)
		for _, c := range []*client{alone, named, passed} {
			c.echo("still here")
		}
		b.apply()
		refused(b, local(n.port))
		named.echo("and on")
	}},
	{"a name goes from one app to another", func(b *bench) {
		n := newNames(b)
		n.apply(n.ends("mail", "mail.example.com"), n.ends("news", "news.example.com"))
		before, err := n.dial("mail.example.com")
		if err != nil {
			b.Fatal(err)
		}
		before.echoAs("mail")
		n.apply(n.ends("chat", "mail.example.com"), n.ends("news", "news.example.com"))
		for range 5 {
			if got := n.asks("mail.example.com"); got != "chat" {
				b.Errorf("%s answers, want chat", got)
			}
		}
		before.echo("still here")
	}},
	{"each name has its own options", func(b *bench) {
		n := newNames(b)
		few := with(b, n.ends("few", "few.example.com"), "tls=terminate max-connections=1")
		nobody := with(b, n.passes("nobody", "nobody.example.com"), "tls=passthrough allow=192.0.2.1")
		slow := with(b, n.ends("slow", "slow.example.com"), "tls=terminate rate=2/10s")
		told := with(b, n.ends("told", "told.example.com"), "tls=terminate proxy-protocol=v2 balance=source")
		told.Servers = proven(newHeaderServer(b, "v2"))
		n.apply(few, nobody, slow, told, n.ends("many", ""))
		first, err := n.dial("few.example.com")
		if err != nil {
			b.Fatal(err)
		}
		first.echoAs("few")
		answered := make(chan string, 1)
		go func() { answered <- n.asks("few.example.com") }()
		// Others don't wait for it.
		for range 5 {
			if got := n.asks("many.example.com"); got != "many" {
				b.Errorf("%s answers, want many", got)
			}
		}
		select {
		case got := <-answered:
			b.Errorf("there are two connections at once: %s answers", got)
		default:
		}
		if err := first.conn.Close(); err != nil {
			b.Fatal(err)
		}
		if got := <-answered; got != "few" {
			b.Errorf("%q answers who waited, want few", got)
		}
		if _, err := n.dial("nobody.example.com"); err == nil {
			b.Error("a client that is not allowed is let in")
		}
		for range 2 {
			if got := n.asks("slow.example.com"); got != "slow" {
				b.Errorf("%s answers, want slow", got)
			}
		}
		if _, err := n.dial("slow.example.com"); err == nil {
			b.Error("a third client within ten seconds is let in")
		}
		c, err := n.dial("told.example.com")
		if err != nil {
			b.Fatal(err)
		}
		c.wantHeader(c.conn.LocalAddr(), c.conn.RemoteAddr())
	}},
	{"a PROXY header comes before the name", func(b *bench) {
		n := newNames(b)
		const believes = " accept-proxy=127.0.0.2 proxy-protocol=v1"
		told, passed := with(b, n.ends("told", "told.example.com"), "tls=terminate"+believes), with(b, n.passes("passed", ""), "tls=passthrough accept-proxy=127.0.0.2")
		told.Servers = proven(newHeaderServer(b, "v1"))
		n.apply(told, passed)
		source, asked := netip.MustParseAddrPort("192.0.2.7:4711"), netip.MustParseAddrPort("198.51.100.1:443")
		c := dialFrom(b, loopback2, n.port)
		c.use(tls.Client(&announced{c.tcp, []byte(headerV1(source, asked))}, n.config("told.example.com")))
		c.wantHeader(net.TCPAddrFromAddrPort(source), net.TCPAddrFromAddrPort(asked))
		c = dialFrom(b, loopback2, n.port)
		c.use(tls.Client(&announced{c.tcp, []byte(headerV2(source, asked))}, n.config("passed.example.com")))
		c.echoAs("passed")
		if got := n.asks("other.example.com"); got != "passed" {
			b.Errorf("%s answers, want passed", got)
		}
	}},
	{"a name without a server is held, and no other", func(b *bench) {
		n := newNames(b)
		mail, news := n.ends("mail", "mail.example.com"), n.passes("news", "news.example.com")
		servers := mail.Servers
		mail.Servers = nil
		n.apply(mail, news)
		answered := make(chan string, 1)
		go func() { answered <- n.asks("mail.example.com") }()
		wait.Until(b, "a client is held", func() bool {
			o, err := b.engine.Observe(b.Context(), deploy.Counters)
			return err == nil && o.Held() == 1
		})
		if got := n.asks("news.example.com"); got != "news" {
			b.Errorf("%s answers, want news", got)
		}
		mail.Servers = servers
		b.switchTo(mail, news)
		if got := <-answered; got != "mail" {
			b.Errorf("%q answers who was held, want mail", got)
		}
	}},
	{"a port that somebody has is told of for each name", func(b *bench) {
		n := newNames(b)
		other := Reserve(b, "other")
		ln, err := net.Listen("tcp", local(n.port).String())
		if err != nil {
			b.Fatal(err)
		}
		mail, news, plain := n.ends("mail", "mail.example.com"), n.passes("news", "news.example.com"), route("plain", b.port(), proven(other)...)
		other.Listen()
		_, err = b.tryApply(mail, news, plain)
		list := b.routeErrors(err)
		for _, r := range []deploy.Route{mail, news} {
			if !slices.ContainsFunc(list, func(e *deploy.RouteError) bool { return e.App == r.App && e.Key == r.Key }) || len(list) != 2 {
				b.Errorf("got %v, want an error of %s, and of the other name", err, r.App)
			}
		}
		b.serving(map[deploy.Key]service{plain.Key: {App: "plain", Options: plain.Options, Servers: []netip.AddrPort{other.Addr}}})
		if got := greeted(b, local(plain.Key)); got != "other" {
			b.Errorf("%s answers", got)
		}
		if err := ln.Close(); err != nil {
			b.Fatal(err)
		}
		b.apply(mail, news, plain)
		if got := n.asks("news.example.com"); got != "news" {
			b.Errorf("%s answers", got)
		}
	}},
	{"a certificate that is missing keeps one name from being served, and no other", func(b *bench) {
		n := newNames(b)
		mail, news := n.ends("mail", "mail.example.com"), n.ends("news", "news.example.com")
		has := mail.Certificate
		mail.Certificate = deploy.Certificate{}
		_, err := b.tryApply(mail, news)
		b.oneRouteError(err, "mail", mail.Key)
		if _, err := n.dial("mail.example.com"); err == nil {
			b.Error("TLS is spoken without a certificate")
		}
		if got := n.asks("news.example.com"); got != "news" {
			b.Errorf("%s answers", got)
		}
		mail.Certificate = has
		b.apply(mail, news)
		if got := n.asks("mail.example.com"); got != "mail" {
			b.Errorf("%s answers", got)
		}
	}},
	{"a thousand clients come at once", func(b *bench) {
		n := newNames(b)
		n.apply(n.ends("mail", "mail.example.com"), n.passes("news", "news.example.com"))
		var clients sync.WaitGroup
		for i := range 1000 {
			want := []string{"mail", "news"}[i%2]
			clients.Go(func() {
				c, err := n.dial(want + ".example.com")
				if err != nil {
					b.Error(err)
					return
				}
				if line, err := c.lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, want+" ") {
					b.Errorf("%q answers, %v, want %s", line, err, want)
				}
				_ = c.conn.Close()
			})
		}
		clients.Wait()
	}},
}

// alertRecord is what begins a record of TLS with an alert.
const alertRecord = 21

// serverNames are routes that share a port.
type serverNames struct {
	b    *bench
	port deploy.Key
	cert testcert.Certificate
}

func newNames(b *bench) *serverNames {
	b.Helper()
	return &serverNames{b, b.port(), testcert.New(b, time.Hour, "*.example.com", "*.b.example.com", "example.com", "mail.example.org", "192.0.2.1")}
}

// ends is a route of an app where TLS ends at the engine.
func (n *serverNames) ends(app, name string) deploy.Route {
	r := with(n.b, route(app, n.key(name), proven(NewServer(n.b, app))...), "tls=terminate")
	r.Certificate = deploy.Certificate{Chain: n.cert.Chain, Key: n.cert.Key, ID: n.cert.Chain}
	return r
}

// passes is a route of an app that speaks TLS itself.
func (n *serverNames) passes(app, name string) deploy.Route {
	return with(n.b, route(app, n.key(name), proven(NewTLSServer(n.b, app, n.cert))...), "tls=passthrough")
}

func (n *serverNames) key(name string) deploy.Key {
	k := n.port
	k.ServerName = name
	return k
}

// NewTLSServer is NewServer for an app that speaks TLS itself, by a certificate.
func NewTLSServer(t testing.TB, name string, cert testcert.Certificate) *Server {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cert.Chain, cert.Key)
	if err != nil {
		t.Fatal(err)
	}
	s := Reserve(t, name)
	s.talk = func(conn net.Conn) {
		secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}})
		s.echo(secure)
		_ = secure.Close()
	}
	s.Listen()
	return s
}

// apply applies routes, and wants the engine to serve them all.
func (n *serverNames) apply(routes ...deploy.Route) {
	n.b.Helper()
	n.b.apply(routes...)
	want := make(map[deploy.Key]service)
	for _, r := range routes {
		s := service{App: r.App, Options: r.Options}
		for _, server := range r.Servers {
			s.Servers = append(s.Servers, server.Addr)
		}
		want[r.Key] = s
	}
	n.b.serving(want)
}

// config is that of a client that asks for a name, "" for none.
func (n *serverNames) config(name string) *tls.Config {
	c := n.cert.Client.Clone()
	if c.ServerName = name; name == "" {
		c.InsecureSkipVerify = true // without a name there is nothing to verify
	}
	return c
}

func (n *serverNames) dial(name string) (*client, error) {
	c, err := tryDial(n.b, local(n.port))
	if err != nil {
		return nil, err
	}
	return c, c.secure(n.config(name))
}

// asks is who answers a client that asks for a name, or why nobody does.
func (n *serverNames) asks(name string) string {
	c, err := n.dial(name)
	if err != nil {
		return err.Error()
	}
	defer c.conn.Close()
	line, err := c.lines.ReadString('\n')
	if err != nil {
		return err.Error()
	}
	who, _, _ := strings.Cut(line, " ")
	return who
}

// load runs clients that ask for a name.
func (n *serverNames) load(name string) *load.Load {
	n.b.Helper()
	l, err := load.Start(n.b.Context(), load.Config{Addr: local(n.port), Openers: openers, Holders: holders, TLS: n.config(name)})
	if err != nil {
		n.b.Fatal(err)
	}
	n.b.Cleanup(func() { l.Stop() })
	return l
}

// hello is a ClientHello for a name that need not be one.
func hello(t testing.TB, name string) string {
	t.Helper()
	// A client refuses to ask for what is no name, but not for as long a one.
	asked := strings.TrimSuffix(name, ".") + "x"
	here, there := net.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	go func() {
		_ = tls.Client(here, &tls.Config{ServerName: asked}).HandshakeContext(ctx)
	}()
	buffer := make([]byte, 16<<10)
	size, err := there.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	_ = there.Close()
	if !strings.Contains(string(buffer[:size]), asked) {
		t.Fatal("the ClientHello does not have its name")
	}
	return strings.Replace(string(buffer[:size]), asked, name, 1)
}
