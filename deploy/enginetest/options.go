package enginetest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/internal/wait"
)

// byOption are the tests of each option of the registry.
var byOption = map[string][]testCase{
	"allow": admitting, "proxy-protocol": telling, "accept-proxy": believing, "max-connections": crowding, "rate": hurrying,
	"idle-timeout": idling, "balance": slices.Concat(balancing, bySource), "check": checkless,
	"tls": terminating, "alpn": askingClients, "starttls": opening,
}

// RunOptions tests what an engine does about the options of routes. start is as for [Run].
func RunOptions(t *testing.T, start func(t *testing.T) deploy.Engine) {
	cases := slices.Clone(changing)
	for _, o := range deploy.Registry() {
		if len(byOption[o.Key]) == 0 {
			t.Errorf("byOption has no test of what engines do about the option %s", o.Key)
		}
		cases = append(cases, byOption[o.Key]...)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(&bench{T: t, engine: start(t)})
		})
	}
}

// Sample is a value of an option that is not its default.
func Sample(tb testing.TB, o deploy.Option) (options deploy.Options) {
	tb.Helper()
	text := map[string]string{"NETWORK,...": "192.0.2.0/24,2001:db8::/32", "NUMBER": "7", "NUMBER/10s": "7/10s", "TIME": "1m30.5s", "PROTOCOL,...": "imap,x/1"}[o.Value]
	if i := slices.IndexFunc(o.Words, func(word string) bool { return word != o.Default }); i >= 0 {
		text = o.Words[i]
	}
	if err := o.Parse(&options, text); err != nil {
		tb.Fatalf("%s: Sample has no %s: %v", o.Key, o.Value, err)
	}
	return options
}

// with is the route with options, as a PORTS file has them.
func with(b *bench, r deploy.Route, options string) deploy.Route {
	b.Helper()
	o, err := deploy.ParseOptions(options)
	if err != nil {
		b.Fatal(err)
	}
	r.Options = o
	return r
}

// needIPv6 skips the test on a host without.
func (b *bench) needIPv6() {
	b.Helper()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		b.Skipf("this test needs IPv6: %v", err)
	}
	if err := ln.Close(); err != nil {
		b.Fatal(err)
	}
}

// dialFrom connects from an address of this host.
func dialFrom(b *bench, from netip.Addr, listen deploy.Key) *client {
	b.Helper()
	c, err := tryDialFrom(b, from, listen)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func tryDialFrom(b *bench, from netip.Addr, listen deploy.Key) (*client, error) {
	b.Helper()
	to := loopback
	if from.Is6() {
		to = loopback6
	}
	dialer := net.Dialer{Timeout: wait.Patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	conn, err := dialer.DialContext(b.Context(), "tcp", netip.AddrPortFrom(to, listen.Port).String())
	if err != nil {
		return nil, err
	}
	b.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(wait.Patience)); err != nil {
		b.Fatal(err)
	}
	return newClient(b, conn.(*net.TCPConn)), nil
}

// rejected wants a connection from an address of this host to be closed at accept.
func (b *bench) rejected(from netip.Addr, listen deploy.Key) {
	b.Helper()
	c, err := tryDialFrom(b, from, listen)
	if errors.Is(err, syscall.ECONNRESET) {
		return // faster than the client could tell that it was connected
	}
	if err != nil {
		b.Fatal(err)
	}
	c.closed()
	_ = c.conn.Close()
}

// admitted wants those sources to get through, of all that there are, and the others to be closed.
func (b *bench) admitted(listen deploy.Key, sources ...netip.Addr) {
	b.Helper()
	for _, from := range []netip.Addr{loopback, loopback2, loopback6} {
		if !slices.Contains(sources, from) {
			b.rejected(from, listen)
			continue
		}
		c := dialFrom(b, from, listen)
		c.greeting()
		c.echo("hello")
		_ = c.conn.Close()
	}
}

// silent wants nothing to come for a moment, and the connection to stay.
func (c *client) silent() {
	c.t.Helper()
	const moment = 300 * time.Millisecond
	if err := c.conn.SetReadDeadline(time.Now().Add(moment)); err != nil {
		c.t.Fatal(err)
	}
	if text, err := c.lines.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("got %q and %v, want silence", text, err)
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(wait.Patience)); err != nil {
		c.t.Fatal(err)
	}
}

// admitting is about who may connect.
var admitting = []testCase{
	{"those whom allow names, and nobody else", func(b *bench) {
		b.needIPv6()
		listen := b.port()
		plain := route("mail", listen, proven(NewServer(b, "v1"))...)
		b.apply(plain)
		b.admitted(listen, loopback, loopback2, loopback6)
		for _, c := range []struct {
			allow string
			want  []netip.Addr
		}{
			{"127.0.0.1", []netip.Addr{loopback}},
			{"127.0.0.2,::1", []netip.Addr{loopback2, loopback6}},
			{"::1", []netip.Addr{loopback6}},
			{"0.0.0.0/0", []netip.Addr{loopback, loopback2}},
			{"::/0", []netip.Addr{loopback6}},
			{"0.0.0.0/0,::/0", []netip.Addr{loopback, loopback2, loopback6}},
			{"10.0.0.0/8,2001:db8::/32", nil},
			{"127.0.0.0/8,127.0.0.0/30,127.0.0.1,127.0.0.1", []netip.Addr{loopback, loopback2}},
			{"127.0.0.2/31", []netip.Addr{loopback2}},
			{"none", nil},
			{"::/1", []netip.Addr{loopback6}},
			{"8000::/1", nil},
		} {
			r := with(b, plain, "allow="+c.allow)
			b.switchTo(r)
			b.admitted(listen, c.want...)
			if b.Failed() {
				b.Fatalf("with allow=%s", c.allow)
			}
			b.serving(map[deploy.Key]service{listen: {App: "mail", Servers: []netip.AddrPort{plain.Servers[0].Addr}, Options: r.Options}})
		}
		b.switchTo(plain)
		b.admitted(listen, loopback, loopback2, loopback6)
	}},
	{"a port of one address", func(b *bench) {
		r := route("mail", deploy.Key{IP: loopback, Port: FreePort(b)}, proven(NewServer(b, "v1"))...)
		b.apply(with(b, r, "allow=127.0.0.2"))
		b.rejected(loopback, r.Key)
		dialFrom(b, loopback2, r.Key).greeting()
		b.switchTo(with(b, r, "allow=0.0.0.0/0"))
		dialFrom(b, loopback, r.Key).greeting()
		b.switchTo(with(b, r, "allow=::/0"))
		b.rejected(loopback, r.Key)
	}},
	{"as many networks as there can be", func(b *bench) {
		b.needIPv6()
		listen := b.port()
		plain := route("mail", listen, proven(NewServer(b, "v1"))...)
		many := func(format string) string {
			var list []string
			for i := range deploy.MaxNetworks - 1 {
				list = append(list, fmt.Sprintf(format, i+100))
			}
			return strings.Join(list, ",")
		}
		b.apply(with(b, plain, "allow="+many("10.%d.0.0/16")+",127.0.0.1"))
		b.admitted(listen, loopback)
		b.switchTo(with(b, plain, "allow="+many("ffff:ffff:ffff:ffff:ffff:ffff:ffff:%d/128")+",::1"))
		b.admitted(listen, loopback6)
		b.switchTo(with(b, plain, "allow=none"))
		b.admitted(listen)
		// What two options have in common can be more than each of them has.
		var prefixes []netip.Prefix
		for i := range 2*deploy.MaxNetworks - 1 {
			prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16))
		}
		plain.Options.Allow = deploy.NetworksOf(append(prefixes, netip.PrefixFrom(loopback2, 32))...)
		b.apply(plain)
		b.admitted(listen, loopback2)
		b.apply(with(b, plain, "allow=127.0.0.1"))
		b.admitted(listen, loopback)
	}},
	{"established connections and other ports are left alone", func(b *bench) {
		b.needIPv6()
		mail, news := route("mail", b.port(), proven(NewServer(b, "mail"))...), route("news", b.port(), proven(NewServer(b, "news"))...)
		news = with(b, news, "allow=127.0.0.2")
		b.apply(mail, news)
		c := dialFrom(b, loopback, mail.Key)
		c.greeting()
		mail = with(b, mail, "allow=::1")
		b.switchTo(mail, news)
		c.echo("still there")
		b.admitted(mail.Key, loopback6)
		b.admitted(news.Key, loopback2)

		// And when ports come and go, all is as it was.
		more := []deploy.Route{route("alpha", b.port(), proven(NewServer(b, "alpha"))...), route("zulu", b.port(), proven(NewServer(b, "zulu"))...)}
		b.apply(mail, news, more[0], more[1])
		b.admitted(more[0].Key, loopback, loopback2, loopback6)
		b.switchTo(mail, news, with(b, more[0], "allow=127.0.0.1"), more[1])
		b.admitted(more[0].Key, loopback)
		b.apply(mail, news)
		b.admitted(mail.Key, loopback6)
		b.admitted(news.Key, loopback2)
		c.echo("still there")
	}},
	{"containers and networks change at once", func(b *bench) {
		r := route("mail", b.port(), proven(NewServer(b, "v1"))...)
		b.apply(with(b, r, "allow=127.0.0.1"))
		r.Servers = proven(NewServer(b, "v2"))
		b.switchTo(with(b, r, "allow=127.0.0.2"))
		b.rejected(loopback, r.Key)
		if got := dialFrom(b, loopback2, r.Key).greeting(); got != "v2" {
			b.Errorf("%s answered", got)
		}
	}},
	{"who may not connect does not wait either", func(b *bench) {
		r := with(b, route("mail", b.port()), "allow=127.0.0.2")
		b.apply(r)
		b.rejected(loopback, r.Key)
		waiting := dialFrom(b, loopback2, r.Key)
		r.Servers = proven(NewServer(b, "v1"))
		b.switchTo(r)
		waiting.greeting()
	}},
}
