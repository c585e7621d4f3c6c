package enginetest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"dokku-expose/deploy"
	"dokku-expose/internal/testcert"
)

// terminating is about the option tls=terminate.
var terminating = []testCase{
	{"TLS ends at the engine", func(b *bench) {
		cert := newCertificate(b)
		app := NewServer(b, "v1")
		r, plain := secured(b, "", cert, proven(app)...), route("news", b.port(), proven(app)...)
		b.apply(r, plain)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c := dialTLS(b, r, cert, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
			if got := c.greeting(); got != "v1" {
				b.Errorf("%s answers", got)
			}
			c.echo("hello")
			if err := c.conn.CloseWrite(); err != nil {
				b.Fatal(err)
			}
			// It ends in order: a client could not tell the end from a cut otherwise.
			if rest, err := io.ReadAll(c.lines); err != nil || string(rest) != "goodbye from v1\n" {
				b.Errorf("after the client's end: %q, %v", rest, err)
			}
		}
		if got := greeted(b, local(plain.Key)); got != "v1" {
			b.Errorf("without TLS %s answers", got)
		}
		o, err := b.engine.Observe(b.Context(), deploy.Counters)
		if err != nil {
			b.Fatal(err)
		}
		want := map[deploy.Key]map[string]uint64{r.Key: {"TLSv1.2": 1, "TLSv1.3": 1}, plain.Key: nil}
		for _, state := range o.Routes {
			if !maps.Equal(state.TLSVersions, want[state.Key]) {
				b.Errorf("of public port %s versions of TLS are counted as %v, want %v", state.Key, state.TLSVersions, want[state.Key])
			}
		}
	}},
	{"a client that speaks no TLS, or an old one, is closed", func(b *bench) {
		cert := newCertificate(b)
		r := secured(b, "", cert, proven(NewServer(b, "v1"))...)
		b.apply(r)
		_, err := tryDialTLS(b, r, cert, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
		if err == nil {
			b.Error("TLS 1.1 is spoken")
		}
		c := dial(b, local(r.Key))
		c.write("EHLO example.com\r\n\r\n")
		if text, err := io.ReadAll(c.lines); bytes.Contains(text, []byte("v1")) {
			b.Errorf("without TLS the client gets %q, %v", text, err)
		}
		// One that says nothing does not stay.
		silent := dial(b, local(r.Key))
		silent.closed()
		dialTLS(b, r, cert).echoAs("v1")
	}},
	{"a ClientHello may come in pieces", func(b *bench) {
		cert := newCertificate(b)
		r := secured(b, "", cert, proven(NewServer(b, "v1"))...)
		b.apply(r)
		tcp := dial(b, local(r.Key)).tcp
		c := tls.Client(bytewise{tcp}, cert.client.Clone())
		if err := c.Handshake(); err != nil {
			b.Fatal(err)
		}
		(&client{t: b, conn: c, lines: bufio.NewReader(c), tcp: tcp}).echoAs("v1")
	}},
	{"another certificate is shown at once, and ends no connection", func(b *bench) {
		first, second := newCertificate(b), newCertificate(b)
		r := secured(b, "", first, proven(NewServer(b, "v1"))...)
		b.apply(r)
		c := dialTLS(b, r, first)
		c.greeting()
		r.Certificate = second.Certificate
		b.switchTo(r)
		c.echo("still here")
		// A table that says nothing of it changes nothing.
		r.Certificate = deploy.Certificate{}
		b.switchTo(r)
		for range 3 {
			dialTLS(b, r, second).echoAs("v1")
		}
		c.echo("and on")
	}},
	{"a certificate that can't be read keeps one port closed, and no other", func(b *bench) {
		cert := newCertificate(b)
		wrong := cert.Certificate
		wrong.Key, wrong.ID = filepath.Join(b.TempDir(), "none.key"), "wrong"
		app := NewServer(b, "v1")
		bad, good, plain := secured(b, "", cert, proven(app)...), secured(b, "", cert, proven(app)...), route("news", b.port(), proven(app)...)
		bad.App, bad.Certificate = "bad", wrong
		_, err := b.tryApply(bad, good, plain)
		b.oneRouteError(err, "bad", bad.Key)
		refused(b, local(bad.Key))
		dialTLS(b, good, cert).echoAs("v1")
		if got := greeted(b, local(plain.Key)); got != "v1" {
			b.Errorf("without TLS %s answers", got)
		}
		// One that is served goes on by the certificate that it has.
		good.Certificate = wrong
		_, err = b.tryApply(good, plain)
		b.oneRouteError(err, "mail", good.Key)
		dialTLS(b, good, cert).echoAs("v1")
		bad.Certificate, good.Certificate = cert.Certificate, cert.Certificate
		b.apply(bad, good, plain)
		dialTLS(b, bad, cert).echoAs("v1")
	}},
	{"a port gets TLS, and loses it", func(b *bench) {
		cert := newCertificate(b)
		r := route("mail", b.port(), proven(NewServer(b, "v1"))...)
		b.apply(r)
		before := dial(b, local(r.Key))
		before.greeting()
		secure := with(b, r, "tls=terminate")
		secure.Certificate = cert.Certificate
		b.apply(secure)
		during := dialTLS(b, secure, cert)
		during.echoAs("v1")
		b.apply(r)
		if got := greeted(b, local(r.Key)); got != "v1" {
			b.Errorf("without TLS %s answers", got)
		}
		before.echo("before")
		during.echo("during")
	}},
	{"a reset is the end for the other side", func(b *bench) {
		cert := newCertificate(b)
		ended := make(chan error, 1)
		app := talker(b, "reset", func(conn *net.TCPConn) {
			line, err := bufio.NewReader(conn).ReadString('\n')
			if line == "mine\n" {
				_ = conn.SetLinger(0)
				return
			}
			if err == nil {
				_, err = conn.Write([]byte("go on\n"))
			}
			if err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			ended <- err
		})
		r := secured(b, "", cert, proven(app)...)
		b.apply(r)
		c := dialTLS(b, r, cert)
		c.write("mine\n")
		// HAProxy makes an end of a reset, with TLS as without.
		if n, err := c.lines.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			b.Errorf("the server's reset is %v, %v to the client", n, err)
		}
		c = dialTLS(b, r, cert)
		c.write("yours\n")
		c.line()
		c.reset()
		if err := <-ended; err == nil {
			b.Error("the server hears more after the client's reset")
		}
	}},
	{"all of a large transfer arrives, both ways at once", func(b *bench) {
		const size = 8 << 20
		cert := newCertificate(b)
		app := talker(b, "copy", func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) })
		r := secured(b, "", cert, proven(app)...)
		b.apply(r)
		c := dialTLS(b, r, cert)
		sent := make([]byte, size)
		_, _ = rand.Read(sent)
		go func() {
			_, err := c.conn.Write(sent)
			if err := errors.Join(err, c.conn.CloseWrite()); err != nil {
				b.Error(err)
			}
		}()
		if got, err := io.ReadAll(c.lines); err != nil || !bytes.Equal(got, sent) {
			b.Errorf("%d of %d bytes came back, %v", len(got), size, err)
		}
	}},
	{"clients wait for a server", func(b *bench) {
		cert := newCertificate(b)
		r := secured(b, "", cert)
		b.apply(r)
		const n = 50
		var waiting sync.WaitGroup
		empty := r
		for range n {
			waiting.Go(func() {
				c, err := tryDialTLS(b, empty, cert)
				if err != nil {
					b.Error(err)
					return
				}
				if line, err := c.lines.ReadString('\n'); err != nil {
					b.Errorf("%q, %v", line, err)
				}
			})
		}
		r.Servers = proven(NewServer(b, "v1"))
		b.switchTo(r)
		waiting.Wait()
	}},
	{"a switch under TLS leaves connections where they are", func(b *bench) {
		cert := newCertificate(b)
		v1, v2 := NewServer(b, "v1"), NewServer(b, "v2")
		r := secured(b, "", cert, proven(v1)...)
		b.apply(r)
		c := dialTLS(b, r, cert)
		c.greeting()
		r.Servers = proven(v2)
		b.switchTo(r)
		dialTLS(b, r, cert).echoAs("v2")
		c.echo("still here")
	}},
	{"the app hears of TLS", func(b *bench) {
		cert := newCertificate(b)
		app := serve(b, "header", func(conn net.Conn) {
			header, err := proxyproto.Read(bufio.NewReader(conn))
			if err != nil {
				b.Error(err)
				return
			}
			tlvs, err := header.TLVs()
			if err != nil {
				b.Error(err)
			}
			ssl, _ := tlvparse.FindSSL(tlvs)
			version, _ := ssl.SSLVersion()
			authority := slices.IndexFunc(tlvs, func(t proxyproto.TLV) bool { return t.Type == proxyproto.PP2_TYPE_AUTHORITY })
			if authority < 0 {
				fmt.Fprintln(conn, ssl.ClientSSL(), version)
				return
			}
			fmt.Fprintln(conn, ssl.ClientSSL(), version, string(tlvs[authority].Value))
		})
		r := secured(b, "proxy-protocol=v2", cert, proven(app)...)
		b.apply(r)
		for want, change := range map[string]func(*tls.Config){
			"true TLSv1.3 mail.example.com": func(*tls.Config) {},
			"true TLSv1.2 mail.example.com": func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
			"true TLSv1.3": func(c *tls.Config) {
				c.ServerName, c.InsecureSkipVerify = "", true // It names nobody.
			},
		} {
			if got := dialTLS(b, r, cert, change).line(); got != want {
				b.Errorf("the app hears %q, want %q", got, want)
			}
		}
	}},
	{"a PROXY header comes before TLS", func(b *bench) {
		cert := newCertificate(b)
		r := secured(b, "accept-proxy=127.0.0.2 proxy-protocol=v2", cert, proven(newHeaderServer(b, "v2"))...)
		r.Hold = time.Second // HAProxy before 3.0 gives a handshake as long as that and a few seconds.
		b.apply(r)
		told, asked := netip.MustParseAddrPort("192.0.2.7:4711"), netip.MustParseAddrPort("198.51.100.1:25")
		for _, header := range []string{headerV1(told, asked), headerV2(told, asked)} {
			c := dialFrom(b, loopback2, r.Key)
			// In one segment with the ClientHello.
			conn := tls.Client(&announced{c.tcp, []byte(header)}, cert.client)
			if err := conn.Handshake(); err != nil {
				b.Fatal(err)
			}
			c.conn, c.lines = conn, bufio.NewReader(conn)
			c.wantHeader(net.TCPAddrFromAddrPort(told), net.TCPAddrFromAddrPort(asked))
			c.echo("hello")
		}
		// One that says nothing after its header does not stay.
		silent := dialFrom(b, loopback2, r.Key)
		silent.write(headerV1(told, asked))
		silent.closed()
		c := dialTLS(b, r, cert)
		c.wantHeader(c.conn.LocalAddr(), c.conn.RemoteAddr())
	}},
	{"the other options mean the same", func(b *bench) {
		cert := newCertificate(b)
		told := secured(b, "proxy-protocol=v2 balance=source", cert, proven(newHeaderServer(b, "v2"))...)
		v1 := NewServer(b, "v1")
		closed, idle, few := secured(b, "allow=192.0.2.1", cert, proven(v1)...), secured(b, "idle-timeout=1s", cert, proven(v1)...), secured(b, "max-connections=1", cert, proven(v1)...)
		closed.App, idle.App, few.App = "closed", "idle", "few"
		b.apply(told, closed, idle, few)
		c := dialTLS(b, told, cert)
		if got, want := c.line(), c.conn.LocalAddr().String()+" "+c.conn.RemoteAddr().String(); got != want {
			b.Errorf("the app hears of %q, want %q", got, want)
		}
		c.echo("hello")
		if c, err := tryDialTLS(b, closed, cert); err == nil {
			b.Errorf("a client that is not allowed is greeted: %q", c.greeting())
		}
		c = dialTLS(b, idle, cert)
		c.greeting()
		// HAProxy may end the server's side a moment before the client's, which then hears what the server says of it.
		if _, err := io.ReadAll(c.lines); errors.Is(err, os.ErrDeadlineExceeded) {
			b.Error("an idle connection stays")
		}
		for range 2 {
			c := dialTLS(b, few, cert)
			c.echoAs("v1")
			_ = c.conn.Close()
		}
	}},
}

// certificate is one as routes have it.
type certificate struct {
	deploy.Certificate
	client *tls.Config
}

func newCertificate(b *bench) certificate {
	b.Helper()
	made := testcert.New(b, time.Hour, "mail.example.com")
	return certificate{deploy.Certificate{Chain: made.Chain, Key: made.Key, ID: made.Chain}, made.Client}
}

// secured is a route of the app mail whose clients speak TLS.
func secured(b *bench, options string, cert certificate, servers ...deploy.Server) deploy.Route {
	b.Helper()
	r := with(b, route("mail", b.port(), servers...), "tls=terminate "+options)
	r.Certificate = cert.Certificate
	return r
}

// dialTLS connects as a client that trusts this certificate, and no other.
func dialTLS(b *bench, r deploy.Route, cert certificate, change ...func(*tls.Config)) *client {
	b.Helper()
	c, err := tryDialTLS(b, r, cert, change...)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func tryDialTLS(b *bench, r deploy.Route, cert certificate, change ...func(*tls.Config)) (*client, error) {
	b.Helper()
	c, err := tryDial(b, local(r.Key))
	if err != nil {
		return nil, err
	}
	config := cert.client.Clone()
	for _, set := range change {
		set(config)
	}
	return c, c.secure(config)
}

// secure has the client speak TLS from now on.
func (c *client) secure(config *tls.Config) error {
	conn := tls.Client(c.tcp, config)
	c.use(conn)
	return conn.Handshake()
}

// use has the client speak through conn, which is above its connection.
func (c *client) use(conn stream) { c.conn, c.lines = conn, bufio.NewReader(conn) }

// echoAs wants a greeting of a server, and an echo.
func (c *client) echoAs(name string) {
	c.t.Helper()
	if got := c.greeting(); got != name {
		c.t.Errorf("%s answers, want %s", got, name)
	}
	c.echo("hello")
}

// bytewise sends each byte alone.
type bytewise struct{ *net.TCPConn }

func (c bytewise) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.TCPConn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}
