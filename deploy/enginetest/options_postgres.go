package enginetest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pires/go-proxyproto"

	"dokku-expose/deploy"
	"dokku-expose/internal/wait"
)

// Messages that clients of Postgres begin with, without what follows in those that are longer.
const (
	askTLS  = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	askGSS  = "\x00\x00\x00\x08\x04\xd2\x16\x30"
	cancel  = "\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x07secr"
	startup = "\x00\x00\x00\x11\x00\x03\x00\x00user\x00me\x00\x00"
)

// opening is about the option starttls. HAProxy has no such thing: it says so, and a daemon has the other engine serve the port.
var opening = []testCase{
	{"a client of Postgres asks for TLS", func(b *bench) {
		cert := newCertificate(b)
		r := secured(b, "starttls=postgres", cert, proven(NewServer(b, "v1"))...)
		if !supported(b, r) {
			return
		}
		b.apply(r)
		for name, first := range map[string]string{"at once": askTLS, "after GSS": askGSS + askTLS, "not at all": ""} {
			c := dial(b, local(r.Key))
			c.question(first)
			config := cert.client.Clone()
			config.NextProtos = []string{"postgresql"}
			if err := c.secure(config); err != nil {
				b.Errorf("%s: %v", name, err)
				continue
			}
			if got := c.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "postgresql" {
				b.Errorf("%s: the protocol is %q", name, got)
			}
			c.echoAs("v1")
		}
		old := dial(b, local(r.Key)) // of libpq before 17, which knows nothing of protocols
		old.question(askTLS)
		if err := old.secure(cert.client); err != nil {
			b.Fatal(err)
		}
		old.echoAs("v1")
		// Postgres takes no others without a question either.
		for _, offered := range [][]string{nil, {"http/1.1"}} {
			config := cert.client.Clone()
			config.NextProtos = offered
			err := dial(b, local(r.Key)).secure(config)
			if err == nil || !strings.Contains(err.Error(), "no application protocol") {
				b.Errorf("a client that offers %q hears %v, want the alert no_application_protocol", offered, err)
			}
		}
		wait.Until(b, "both have failed", func() bool {
			o, err := b.engine.Observe(b.Context(), deploy.Counters)
			return err == nil && len(o.Routes) == 1 && o.Routes[0].HandshakesFailed == 2
		})
		// A switch is what it is for all connections.
		r.Servers = proven(NewServer(b, "v2"))
		b.switchTo(r)
		old.echo("still here")
		c := dial(b, local(r.Key))
		c.question(askTLS)
		if err := c.secure(cert.client); err != nil {
			b.Fatal(err)
		}
		c.echoAs("v2")
	}},
	{"who asks for no TLS is told to", func(b *bench) {
		cert, heard := newCertificate(b), make(chan string, 9)
		app := talker(b, "app", func(conn *net.TCPConn) {
			all, _ := io.ReadAll(conn)
			heard <- string(all)
		})
		r, certain := secured(b, "starttls=postgres", cert, proven(app)...), secured(b, "starttls=postgres", cert, proven(app)...)
		certain.App, certain.ClientCA = "certain", newClientCertificate(b, "alice").authority
		if !supported(b, r) {
			return
		}
		b.apply(r, certain)
		for _, plain := range []struct {
			route deploy.Route
			text  string
		}{{r, startup}, {certain, startup}, {certain, cancel}} {
			c := dial(b, local(plain.route.Key))
			c.write(plain.text)
			answer, err := io.ReadAll(c.lines)
			if err != nil || !strings.HasPrefix(string(answer), "E\x00") || !strings.Contains(string(answer), "\x00C28000\x00") || !strings.Contains(string(answer), "sslmode=require") {
				b.Errorf("%q is answered with %q, %v", plain.text, answer, err)
			}
		}
		pieces := dial(b, local(r.Key))
		for _, one := range []byte(startup) {
			pieces.write(string([]byte{one}))
		}
		if answer, err := io.ReadAll(pieces.lines); err != nil || !strings.Contains(string(answer), "sslmode=require") {
			b.Errorf("a first message in pieces is answered with %q, %v", answer, err)
		}
		// Somebody between client and host could have put the second part there.
		for _, text := range []string{askTLS + startup, askGSS + "x", askGSS + askTLS, "EHLO example.com\r\n", "\x00\x00\x00\x04", "\x00\x00\x00\x08\x00\x00\x00\x00", "\x00\xff\xff\xff\x00\x03\x00\x00"} {
			c := dial(b, local(r.Key))
			c.write(text)
			if answer, _ := io.ReadAll(c.lines); len(answer) > 0 {
				b.Errorf("%q is answered with %q", text, answer)
			}
		}
		twice := dial(b, local(r.Key))
		twice.question(askGSS)
		twice.write(askGSS)
		if answer, _ := io.ReadAll(twice.lines); len(answer) > 0 {
			b.Errorf("a second question is answered with %q", answer)
		}
		silent, half := dial(b, local(r.Key)), dial(b, local(r.Key))
		half.write(askTLS[:5])
		silent.closed()
		half.closed()
		select {
		case text := <-heard:
			b.Errorf("the app hears %q", text)
		default:
		}
		// Programs with a libpq before 17 cancel a query without TLS.
		c := dial(b, local(r.Key))
		c.write(cancel)
		if err := c.conn.CloseWrite(); err != nil {
			b.Fatal(err)
		}
		if got := <-heard; got != cancel {
			b.Errorf("the app hears %q, want the wish to cancel", got)
		}
	}},
	{"an app that ends TLS itself hears the question", func(b *bench) {
		cert := newCertificate(b)
		listen := b.port()
		app := func(name, host, options string, talk func(*Server, net.Conn)) deploy.Route {
			s := Reserve(b, name)
			s.talk = func(conn net.Conn) { talk(s, conn) }
			s.Listen()
			r := with(b, route(name, listen, proven(s)...), "tls=passthrough starttls=postgres "+options)
			r.Key.ServerName = host
			return r
		}
		routes := []deploy.Route{
			app("one", "mail.example.com", "proxy-protocol=v1", postgres(b, cert)), app("two", "two.example.com", "proxy-protocol=v1", postgres(b, cert)),
			app("refuses", "no.example.com", "", func(_ *Server, conn net.Conn) {
				_, _ = io.ReadFull(conn, make([]byte, len(askTLS)))
				_, _ = conn.Write([]byte("N"))
				_, _ = io.Copy(io.Discard, conn)
			}),
		}
		if !supported(b, routes[0]) {
			return
		}
		b.apply(routes...)
		ask := func(host, first string) (string, error) {
			c := dial(b, local(listen))
			c.question(first)
			config := cert.client.Clone()
			config.ServerName, config.InsecureSkipVerify = host, true
			if err := c.secure(config); err != nil {
				return "", err
			}
			line, err := c.lines.ReadString('\n')
			return strings.TrimSpace(line), err
		}
		var clients sync.WaitGroup
		for range 20 {
			for host, want := range map[string]string{"mail.example.com": "one", "two.example.com": "two"} {
				for first, how := range map[string]string{askTLS: "asked", askGSS + askTLS: "asked", "": "began"} {
					clients.Go(func() {
						if got, err := ask(host, first); err != nil || got != want+" "+how {
							b.Errorf("%s is answered with %q, %v, want %q", host, got, err, want+" "+how)
						}
					})
				}
			}
		}
		clients.Wait()
		for range 2 { // It is not down for that.
			if got, err := ask("no.example.com", askTLS); err == nil {
				b.Errorf("an app that refuses TLS answers %q", got)
			}
		}
		if o := b.observe()[routes[2].Key]; len(o.Addresses(true)) != 1 {
			b.Errorf("an app that refuses TLS is %+v", o)
		}
		// A wish to cancel names no host.
		c := dial(b, local(listen))
		c.write(cancel)
		if answer, err := io.ReadAll(c.lines); err != nil || !strings.Contains(string(answer), "sslmode=require") {
			b.Errorf("a wish to cancel is answered with %q, %v", answer, err)
		}
		if _, err := ask("nobody.example.com", askTLS); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			b.Errorf("a name that nobody has hears %v", err)
		}
	}},
	{"an app that ends instead of an answer is asked again, and is not down for that", func(b *bench) {
		cert := newCertificate(b)
		var ends atomic.Int32
		answer := postgres(b, cert)
		app := Reserve(b, "db")
		app.talk = func(conn net.Conn) {
			if ends.Add(1) <= 3 {
				_, _ = io.ReadFull(conn, make([]byte, len(askTLS)))
				return
			}
			answer(app, conn)
		}
		app.Listen()
		r := with(b, route("db", b.port(), proven(app)...), "tls=passthrough starttls=postgres")
		if !supported(b, r) {
			return
		}
		b.apply(r)
		c := dial(b, local(r.Key))
		c.question(askTLS)
		if err := c.secure(cert.client); err != nil {
			b.Fatal(err)
		}
		if got := c.line(); got != "db asked" {
			b.Errorf("the app answers %q", got)
		}
		if o := b.observe()[r.Key]; len(o.Addresses(true)) != 1 {
			b.Errorf("the app is %+v", o)
		}
	}},
	{"a switch while apps are asked for TLS loses no client", func(b *bench) {
		cert := newCertificate(b)
		listen := b.port()
		// The first app never answers. Once it is out of service its clients are asked about at the next one.
		asked := make(chan struct{}, 1)
		silent := talker(b, "silent", func(conn *net.TCPConn) {
			_, _ = io.ReadFull(conn, make([]byte, len(askTLS)))
			select {
			case asked <- struct{}{}:
			default:
			}
			_, _ = io.Copy(io.Discard, conn)
		})
		r := with(b, route("db", listen, proven(silent)...), "tls=passthrough starttls=postgres")
		if !supported(b, r) {
			return
		}
		b.apply(r)
		answered := func() (string, error) {
			c, err := tryDial(b, local(listen))
			if err != nil {
				return "", err
			}
			defer c.tcp.Close()
			if _, err := c.tcp.Write([]byte(askTLS)); err != nil {
				return "", err
			}
			if answer, err := c.lines.ReadByte(); err != nil || answer != 'S' {
				return "", fmt.Errorf("the question is answered with %q, %w", answer, err)
			}
			if err := c.secure(cert.client); err != nil {
				return "", err
			}
			return c.lines.ReadString('\n')
		}
		var (
			clients sync.WaitGroup
			done    atomic.Bool
			count   atomic.Int64
		)
		for range 8 {
			clients.Go(func() {
				for !done.Load() {
					if line, err := answered(); err != nil || !strings.HasSuffix(line, " asked\n") {
						b.Errorf("a client is answered with %q, %v", line, err)
						return
					}
					count.Add(1)
				}
			})
		}
		<-asked
		answer := postgres(b, cert)
		for i := range 20 {
			s := Reserve(b, fmt.Sprint("v", i))
			s.talk = func(conn net.Conn) { answer(s, conn) }
			s.Listen()
			r.Servers = proven(s)
			b.switchTo(r)
			before := count.Load()
			wait.Until(b, "clients are answered", func() bool { return count.Load() > before || b.Failed() })
		}
		done.Store(true)
		clients.Wait()
	}},
}

// supported tells whether the engine can have a route. One that can't says so, and serves all others.
func supported(b *bench, r deploy.Route) bool {
	b.Helper()
	why := b.engine.Supports(r)
	if why == nil {
		return true
	}
	if !errors.Is(why, deploy.ErrUnsupported) {
		b.Fatal(why)
	}
	other := route("news", b.port(), proven(NewServer(b, "v1"))...)
	_, err := b.tryApply(r, other)
	if refusal := b.oneRouteError(err, r.App, r.Key); !errors.Is(refusal, deploy.ErrUnsupported) {
		b.Errorf("the route is refused by %v", refusal)
	}
	refused(b, local(r.Key))
	greeted(b, local(other.Key))
	return false
}

// question asks as a client of Postgres does, byte by byte, and wants no to GSS and yes to TLS.
func (c *client) question(first string) {
	c.t.Helper()
	for len(first) > 0 {
		for _, b := range []byte(first[:len(askTLS)]) {
			c.write(string([]byte{b}))
		}
		want := byte('S')
		if strings.HasPrefix(first, askGSS) {
			want = 'N'
		}
		if got, err := c.lines.ReadByte(); err != nil || got != want {
			c.t.Fatalf("the question is answered with %q, %v, want %q", got, err, want)
		}
		first = first[len(askTLS):]
	}
}

// postgres is how an app talks that ends TLS itself, behind a PROXY header or none. It greets with whether it was asked for TLS.
func postgres(b *bench, cert certificate) func(*Server, net.Conn) {
	b.Helper()
	pair, err := tls.LoadX509KeyPair(cert.Chain, cert.Key)
	if err != nil {
		b.Fatal(err)
	}
	return func(s *Server, conn net.Conn) {
		said := bufio.NewReader(conn)
		if _, err := proxyproto.Read(said); err != nil && !errors.Is(err, proxyproto.ErrNoProxyProtocol) {
			b.Errorf("%s: %v", s.Name, err)
			return
		}
		how := "began"
		if first, err := said.Peek(1); err == nil && first[0] == askTLS[0] {
			question := make([]byte, len(askTLS))
			if _, err := io.ReadFull(said, question); err != nil || string(question) != askTLS || said.Buffered() > 0 {
				b.Errorf("%s is asked %q, %v, with %d bytes behind", s.Name, question, err, said.Buffered())
				return
			}
			how = "asked"
			if _, err := conn.Write([]byte("S")); err != nil {
				return // Its client is asked about at another app: this one is out of service.
			}
		}
		secure := tls.Server(&readBefore{conn, said}, &tls.Config{Certificates: []tls.Certificate{pair}})
		fmt.Fprintln(secure, s.Name, how)
		_ = secure.Close()
	}
}

// readBefore is a connection of which something has been read already.
type readBefore struct {
	net.Conn
	said *bufio.Reader
}

func (c *readBefore) Read(b []byte) (int, error) { return c.said.Read(b) }
