package haproxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/load"
	"dokku-expose/internal/testcert"
	"dokku-expose/internal/wait"
)

// named is a route of those clients that ask for a name, with TLS by a certificate.
func named(t *testing.T, app string, l deploy.Key, name string, s *enginetest.Server, cert testcert.Certificate) deploy.Route {
	t.Helper()
	l.ServerName = name
	r := secured(t, l, s, cert)
	r.App = app
	return r
}

// passed is a route whose clients' TLS the app ends.
func passed(t *testing.T, app string, l deploy.Key, name string, s *enginetest.Server) deploy.Route {
	t.Helper()
	l.ServerName = name
	r := withOptions(t, route(app, l, s), "tls=passthrough")
	return r
}

// asking is a client that asks for a name.
func asking(cert testcert.Certificate, name string) *tls.Config {
	c := cert.Client.Clone()
	c.ServerName = name
	return c
}

const (
	anyHost = "*.example.com"
	// unrecognized is what Go's client makes of the alert 112.
	unrecognized = "remote error: tls: unrecognized name"
)

// nobody wants a client that asks for a name to hear that nobody has it.
func nobody(t *testing.T, l deploy.Key, client *tls.Config) {
	t.Helper()
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.Port), client)
	if err == nil {
		_ = conn.Close()
		t.Errorf("%q: a connection", client.ServerName)
		return
	}
	if !strings.Contains(err.Error(), unrecognized) {
		t.Errorf("%q: %v, want the alert unrecognized_name", client.ServerName, err)
	}
}

// The certificate that HAProxy has for clients of names which no route has is for a name, too.
func TestNameOfOwnCertificate(t *testing.T) {
	h := haproxytest.Start(t)
	cert, listen, v1 := testcert.New(t, time.Hour, "a.example.com", anyHost), port(t), enginetest.NewServer(t, "v1")
	apply(t, h, named(t, "one", listen, "a.example.com", v1, cert), named(t, "two", listen, anyHost, v1, cert))
	if _, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", listen.Port), asking(cert, "unknown.invalid")); err == nil {
		t.Error("a connection")
	}
	wantFresh(t, h)
}

// dotted has a client ask for a name with a dot at its end, which Go's own leaves out.
type dotted struct{ net.Conn }

func (c dotted) Write(b []byte) (int, error) {
	return c.Conn.Write(bytes.ReplaceAll(b, []byte(".com-"), []byte(".com.")))
}

func TestNameWithADot(t *testing.T) {
	h := haproxytest.Start(t)
	cert, listen, v1 := testcert.New(t, time.Hour, "a.example.com"), port(t), enginetest.NewServer(t, "v1")
	apply(t, h, named(t, "one", listen, "a.example.com", v1, cert), named(t, "two", listen, anyHost, v1, cert), named(t, "two", listen, "", v1, cert))
	for _, name := range []string{"a.example.com-", "b.example.com-", "other.com-"} {
		conn := open(t, listen)
		if err := tls.Client(dotted{conn}, asking(cert, name)).Handshake(); err == nil || !strings.Contains(err.Error(), unrecognized) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Names come and go, and a frontend has names and has none, while other clients connect and stay connected.
func TestNamesComeAndGoUnderLoad(t *testing.T) {
	h := haproxytest.Start(t)
	cert, listen := testcert.New(t, time.Hour, certified, "b.example.com"), port(t)
	v1, v2, other := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), enginetest.NewServer(t, "other")
	mail := func(s *enginetest.Server) deploy.Route { return named(t, "mail", listen, certified, s, cert) }
	beside := named(t, "other", listen, "b.example.com", other, cert)
	rest := func(s *enginetest.Server) deploy.Route { return named(t, "mail", listen, "", s, cert) }
	apply(t, h, rest(v1))
	l, err := load.Start(t.Context(), load.Config{
		Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), listen.Port), Openers: 4, Holders: 8, TLS: cert.Client,
	})
	if err != nil {
		t.Fatal(err)
	}
	await := func() {
		t.Helper()
		if err := l.Await(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*enginetest.Server{v2, v1, v2} {
		for _, step := range []struct {
			name   string
			routes []deploy.Route
			reload bool
		}{
			{"only the rest", []deploy.Route{rest(s)}, true},
			{"a name beside it", []deploy.Route{rest(s), beside}, true},
			{"its own name", []deploy.Route{mail(s), rest(s), beside}, true},
			{"without the rest", []deploy.Route{mail(s), beside}, true},
			{"switched to other", []deploy.Route{mail(s), named(t, "other", listen, "b.example.com", v1, cert)}, false},
			{"switched back", []deploy.Route{mail(s), beside}, false},
			{"alone", []deploy.Route{mail(s)}, true},
		} {
			applied := apply(t, h, step.routes...)
			if step.reload == (applied.Reload == "") && step.name != "only the rest" {
				t.Errorf("%s: reload %q", step.name, applied.Reload)
			}
			await()
			if step.name == "a name beside it" {
				answersClient(t, listen, asking(cert, "b.example.com"), "other")
			}
		}
		nobody(t, listen, asking(cert, "b.example.com"))
	}
	if r := l.Stop(); r.Failed() > 0 || r.Held.Broken > 0 || r.Held.Open != 8 {
		t.Errorf("%s\n%v", r.Summary(), r.Failures)
	}
	apply(t, h, route("news", port(t), v1))
	wait.Until(t, "nobody listens", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+listen.String())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if left := bundles(t, h); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// A client that is held goes from worker to worker, also where its name is the only one at last.
func TestNamedAndHeldThroughReloads(t *testing.T) {
	h := haproxytest.Start(t)
	cert, listen, v1 := testcert.New(t, time.Hour, "a.example.com"), port(t), enginetest.NewServer(t, "v1")
	mail, news := named(t, "mail", listen, "a.example.com", v1, cert), named(t, "news", listen, "b.example.com", v1, cert)
	servers := mail.Servers
	mail.Servers, mail.Hold = nil, time.Minute
	apply(t, h, mail)
	conn, err := tls.Dial("tcp", "127.0.0.1:"+listen.String(), cert.Client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, routes := range [][]deploy.Route{{mail, news}, {mail}, {mail, news}} {
		if applied := apply(t, h, routes...); applied.Reload == "" {
			t.Error("no reload")
		}
	}
	mail.Servers = servers
	if applied := apply(t, h, mail, news); applied.Reload != "" {
		t.Errorf("reload: %s", applied.Reload)
	}
	if err := conn.SetDeadline(time.Now().Add(wait.Patience)); err != nil {
		t.Fatal(err)
	}
	if got := firstLine(t, conn); !strings.HasPrefix(got, "v1 ") {
		t.Errorf("%s answered", got)
	}
}

// Named routes must not wait for connections that they have taken themselves.
func TestNamesAndTotalConnections(t *testing.T) {
	for _, total := range []int{1, 8} {
		t.Run(strconv.Itoa(total), func(t *testing.T) { manyAtOnce(t, total) })
	}
}

// manyAtOnce has more clients come at once than there may be.
func manyAtOnce(t *testing.T, total int) {
	h := haproxytest.Start(t, func(c *haproxy.Config) { c.TotalConnections = total })
	cert, listen, v1 := testcert.New(t, time.Hour, "a.example.com"), port(t), enginetest.NewServer(t, "v1")
	apply(t, h, named(t, "one", listen, "a.example.com", v1, cert))
	began := make(chan error, 40)
	for range cap(began) {
		go func() {
			conn, err := tls.Dial("tcp", "127.0.0.1:"+listen.String(), cert.Client)
			if err == nil {
				_, err = bufio.NewReader(conn).ReadString('\n')
				_ = conn.Close()
			}
			began <- err
		}()
	}
	for range cap(began) {
		select {
		case err := <-began:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(wait.Patience):
			t.Fatal("nothing moves")
		}
	}
}

func TestNamedConfigurationIsValid(t *testing.T) {
	_, stats := withStats(t)
	h := haproxytest.New(t, stats)
	cert, v1 := testcert.New(t, time.Hour, "a.example.com"), enginetest.NewServer(t, "v1")
	local := deploy.Key{IP: netip.IPv6Loopback(), Port: enginetest.FreePort(t)}
	var networks []netip.Prefix
	for i := range 2*deploy.MaxNetworks - 2 {
		networks = append(networks, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24))
	}
	proxied, beside := passed(t, "three", local, "", v1), passed(t, "three", local, anyHost, v1)
	proxied.Options.AcceptProxy = deploy.NetworksOf(append(networks, netip.MustParsePrefix("::1/128"))...)
	beside.Options.AcceptProxy, beside.HalfClosed = proxied.Options.AcceptProxy, -1
	listen := port(t)
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + "." + strings.Repeat("c", 60) + "." + strings.Repeat("d", 60) + ".com"
	err := h.Engine.Prepare(t.Context(), table(named(t, "one", listen, "a.example.com", v1, cert), passed(t, "two", listen, long, v1),
		proxied, beside, passed(t, "alone", port(t), "", v1), named(t, strings.Repeat("\xff", 255), listen, "z.example.com", v1, cert)))
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(h.Config.Binary, "-c", "-f", h.Config.ConfigFile).CombinedOutput()
	if err != nil || strings.Contains(string(output), "WARNING") {
		t.Errorf("%v\n%s\n%s", err, output, file(t, h))
	}
}
