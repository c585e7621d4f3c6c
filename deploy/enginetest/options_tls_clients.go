package enginetest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"dokku-expose/deploy"
	"dokku-expose/internal/testcert"
)

// askingClients is about what clients say of themselves in TLS: protocols and certificates.
var askingClients = []testCase{
	{"ALPN chooses a protocol", func(b *bench) {
		cert := newCertificate(b)
		r := secured(b, "alpn=imap,x/1 proxy-protocol=v2", cert, proven(newTLVServer(b))...)
		b.apply(r)
		for want, offered := range map[string][]string{"imap": {"pop3", "x/1", "imap"}, "x/1": {"x/1"}, "": {"pop3"}} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				c := dialTLS(b, r, cert, func(c *tls.Config) { c.NextProtos, c.MaxVersion = offered, version })
				if got := c.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != want {
					b.Errorf("of %v it chooses %q, want %q", offered, got, want)
				}
				if got := c.line(); got != fmt.Sprintf("alpn=%s cert=false cn=", want) {
					b.Errorf("the app hears %q of %v", got, offered)
				}
			}
		}
		if got := dialTLS(b, r, cert).line(); got != "alpn= cert=false cn=" {
			b.Errorf("of a client that offers nothing the app hears %q", got)
		}
		// Other protocols end no connection.
		before := dialTLS(b, r, cert)
		before.line()
		changed := with(b, r, "tls=terminate alpn=pop3 proxy-protocol=v2")
		b.apply(changed)
		if got := dialTLS(b, r, cert, func(c *tls.Config) { c.NextProtos = []string{"imap", "pop3"} }).line(); got != "alpn=pop3 cert=false cn=" {
			b.Errorf("after the change the app hears %q", got)
		}
		before.echo("before")
	}},
	{"without alpn no protocol is chosen", func(b *bench) {
		cert := newCertificate(b)
		r := secured(b, "", cert, proven(NewServer(b, "v1"))...)
		b.apply(r)
		c := dialTLS(b, r, cert, func(c *tls.Config) { c.NextProtos = []string{"imap"} })
		c.echoAs("v1")
		if got := c.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "" {
			b.Errorf("it chooses %q", got)
		}
	}},
	{"clients need a certificate of an authority", func(b *bench) {
		cert, ours, theirs := newCertificate(b), newClientCertificate(b, "alice"), newClientCertificate(b, "mallory")
		r, open := secured(b, "proxy-protocol=v2", cert, proven(newTLVServer(b))...), secured(b, "", cert, proven(NewServer(b, "v1"))...)
		r.ClientCA, open.App = ours.authority, "open"
		b.apply(r, open)
		b.serving(map[deploy.Key]service{
			r.Key:    {App: "mail", Servers: []netip.AddrPort{r.Servers[0].Addr}, Options: r.Options, ClientCA: r.ClientCA},
			open.Key: {App: "open", Servers: []netip.AddrPort{open.Servers[0].Addr}, Options: open.Options},
		})
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			limit := func(c *tls.Config) { c.MaxVersion = version }
			c := dialTLS(b, r, cert, ours.show, limit)
			if got := c.line(); got != "alpn= cert=true cn=alice" {
				b.Errorf("the app hears %q", got)
			}
			c.echo("hello")
			// A client of TLS 1.3 hears of it after its own part of the handshake.
			for who, show := range map[string]func(*tls.Config){"nobody": func(*tls.Config) {}, "mallory": theirs.show} {
				c, err := tryDialTLS(b, r, cert, show, limit)
				var line string
				if err == nil {
					line, err = c.lines.ReadString('\n')
				}
				if err == nil || os.IsTimeout(err) || line != "" {
					b.Errorf("%s gets to the app: %q, %v", who, line, err)
				}
			}
		}
		dialTLS(b, open, cert).echoAs("v1")
	}},
	{"a session of one port does not let a client in by another", func(b *bench) {
		cert, ours, theirs := newCertificate(b), newClientCertificate(b, "alice"), newClientCertificate(b, "mallory")
		app := NewServer(b, "v1")
		closed, open, other := secured(b, "", cert, proven(app)...), secured(b, "", cert, proven(app)...), secured(b, "", cert, proven(app)...)
		closed.ClientCA, other.ClientCA = ours.authority, theirs.authority
		open.App, other.App = "open", "other"
		b.apply(closed, open, other)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for name, from := range map[string]struct {
				route deploy.Route
				show  func(*tls.Config)
			}{"an open port": {open, func(*tls.Config) {}}, "a port of others": {other, theirs.show}} {
				remembers := tls.NewLRUClientSessionCache(4)
				resume := func(c *tls.Config) { c.ClientSessionCache, c.MaxVersion = remembers, version }
				for range 2 { // The second one is resumed, so that the sessions are known to be.
					c := dialTLS(b, from.route, cert, from.show, resume)
					c.echoAs("v1")
					_ = c.conn.Close()
				}
				if c, err := tryDialTLS(b, closed, cert, resume); err == nil {
					if line, err := c.lines.ReadString('\n'); err == nil {
						b.Errorf("TLS %#x: a client with a session of %s gets to the app: %q", version, name, line)
					}
				}
			}
		}
		dialTLS(b, closed, cert, ours.show).echoAs("v1")
	}},
	{"another authority goes for new clients at once, and ends no connection", func(b *bench) {
		cert, first, second := newCertificate(b), newClientCertificate(b, "first"), newClientCertificate(b, "second")
		r := secured(b, "", cert, proven(NewServer(b, "v1"))...)
		r.ClientCA = first.authority
		b.apply(r)
		// Its session can be resumed, by a client who still shows the former certificate.
		remembers := tls.NewLRUClientSessionCache(1)
		resume := func(c *tls.Config) { c.ClientSessionCache = remembers }
		held := dialTLS(b, r, cert, first.show, resume)
		held.echoAs("v1")
		r.ClientCA = first.authority + second.authority
		b.apply(r)
		for _, c := range []clientCertificate{first, second} {
			dialTLS(b, r, cert, c.show).echoAs("v1")
		}
		r.ClientCA = second.authority
		b.apply(r)
		dialTLS(b, r, cert, second.show).echoAs("v1")
		for range 3 {
			if c, err := tryDialTLS(b, r, cert, first.show, resume); err == nil {
				if line, err := c.lines.ReadString('\n'); err == nil {
					b.Errorf("the former authority's client gets to the app: %q", line)
				}
			}
		}
		held.echo("still here")
		r.ClientCA = ""
		b.apply(r)
		dialTLS(b, r, cert).echoAs("v1")
		held.echo("and on")
	}},
}

// clientCertificate is one that clients show, and its authority in PEM.
type clientCertificate struct {
	authority string
	pair      tls.Certificate
}

func newClientCertificate(b *bench, name string) clientCertificate {
	b.Helper()
	made := testcert.New(b, time.Hour, name)
	text, err := os.ReadFile(made.Chain)
	if err != nil {
		b.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(made.Chain, made.Key)
	if err != nil {
		b.Fatal(err)
	}
	return clientCertificate{string(text), pair}
}

// show has a client show it, whatever authorities are asked for.
func (c clientCertificate) show(config *tls.Config) {
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.pair, nil }
}

// newTLVServer greets by what its PROXY header says of TLS, and echoes.
func newTLVServer(b *bench) *Server {
	return serve(b, "header", func(conn net.Conn) {
		lines := bufio.NewReader(conn)
		header, err := proxyproto.Read(lines)
		if err != nil {
			b.Error(err)
			return
		}
		tlvs, err := header.TLVs()
		if err != nil {
			b.Error(err)
		}
		ssl, _ := tlvparse.FindSSL(tlvs)
		cn, _ := ssl.ClientCN()
		var alpn string
		for _, t := range tlvs {
			if t.Type == proxyproto.PP2_TYPE_ALPN {
				alpn = string(t.Value)
			}
		}
		fmt.Fprintf(conn, "alpn=%s cert=%t cn=%s\n", alpn, ssl.ClientCertConn() && ssl.Verified(), strings.TrimRight(cn, "\x00"))
		_, _ = io.Copy(conn, lines)
	})
}
