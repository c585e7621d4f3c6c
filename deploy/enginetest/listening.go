package enginetest

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"dokku-expose/deploy"
)

var (
	loopback  = netip.MustParseAddr("127.0.0.1")
	loopback2 = netip.MustParseAddr("127.0.0.2")
	loopback6 = netip.MustParseAddr("::1")
	elsewhere = netip.MustParseAddr("203.0.113.1") // for documentation: nobody's
)

// listening is about public addresses.
var listening = []testCase{
	{"a port that somebody has", func(b *bench) {
		taken, free := b.port(), b.port()
		holder, err := net.Listen("tcp", fmt.Sprintf(":%d", taken.Port))
		if err != nil {
			b.Fatal(err)
		}
		defer holder.Close()
		v1 := NewServer(b, "v1")
		table := []deploy.Route{route("late", taken, proven(v1)...), route("mail", free, proven(v1)...)}

		_, err = b.tryApply(table...)
		b.oneRouteError(err, "late", taken)
		if got := greeted(b, local(free)); got != "v1" {
			b.Errorf("%s answered", got)
		}
		b.serving(map[deploy.Key]service{free: {App: "mail", Servers: []netip.AddrPort{v1.Addr}}})

		// And while it lasts, others' deploys go on.
		v2 := NewServer(b, "v2")
		table[1] = route("mail", free, proven(v2)...)
		applied, err := b.tryApply(table...)
		b.oneRouteError(err, "late", taken)
		if applied.Reload != "" {
			b.Errorf("a switch took a reload: %s", applied.Reload)
		}
		if got := greeted(b, local(free)); got != "v2" {
			b.Errorf("%s answered", got)
		}

		if err := holder.Close(); err != nil {
			b.Fatal(err)
		}
		b.apply(table...)
		if got := greeted(b, local(taken)); got != "v1" {
			b.Errorf("%s answered", got)
		}
	}},
	{"a protocol that the engine does not support", func(b *bench) {
		tcp := b.port()
		udp := deploy.Key{Proto: deploy.UDP, Port: tcp.Port}
		if tcp.Frontend().Overlaps(udp.Frontend()) {
			b.Error("the same port of two protocols conflicts")
		}
		v1 := NewServer(b, "v1")
		mail, dns := route("mail", tcp, proven(v1)...), route("mail", udp, proven(v1)...)
		if b.engine.Supports(dns) == nil {
			b.Skip("it does")
		}
		for range 2 {
			_, err := b.tryApply(mail, dns)
			if e := b.oneRouteError(err, "mail", udp); !strings.Contains(e.Error(), deploy.ErrUnsupported.Error()) {
				b.Errorf("got %v", e)
			}
			b.serving(map[deploy.Key]service{tcp: {App: "mail", Servers: []netip.AddrPort{v1.Addr}}})
		}
	}},
	{"a port that an outgoing connection has", func(b *bench) {
		taken := b.port()
		v1 := NewServer(b, "v1")
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: loopback.AsSlice(), Port: int(taken.Port)}}
		conn, err := dialer.Dial("tcp", v1.Addr.String())
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		_, err = b.tryApply(route("mail", taken, proven(v1)...))
		text := b.oneRouteError(err, "mail", taken).Error()
		for _, want := range []string{"(pid ", v1.Addr.String(), "use another public port", fmt.Sprintf("ip_local_reserved_ports=%d ", taken.Port)} {
			if !strings.Contains(text, want) {
				b.Errorf("%q is missing in: %s", want, text)
			}
		}
	}},
	{"a port that somebody has on one address", func(b *bench) {
		taken := b.port()
		holder, err := net.Listen("tcp", netip.AddrPortFrom(loopback2, taken.Port).String())
		if err != nil {
			b.Fatal(err)
		}
		defer holder.Close()
		v1 := NewServer(b, "v1")

		_, err = b.tryApply(route("mail", taken, proven(v1)...))
		b.oneRouteError(err, "mail", taken)

		// Beside it there is room.
		beside := deploy.Key{IP: loopback, Port: taken.Port}
		b.apply(route("mail", beside, proven(v1)...))
		if got := greeted(b, local(beside)); got != "v1" {
			b.Errorf("%s answered", got)
		}
	}},
	{"an address that the host does not have", func(b *bench) {
		v1, good, bad := NewServer(b, "v1"), b.port(), deploy.Key{IP: elsewhere, Port: FreePort(b)}
		_, err := b.tryApply(route("mail", good, proven(v1)...), route("lost", bad, proven(v1)...))
		b.oneRouteError(err, "lost", bad)
		if got := greeted(b, local(good)); got != "v1" {
			b.Errorf("%s answered", got)
		}
	}},
	{"two apps on one port of different addresses", func(b *bench) {
		port := FreePort(b)
		one, two := deploy.Key{IP: loopback, Port: port}, deploy.Key{IP: loopback2, Port: port}
		b.apply(route("one", one, proven(NewServer(b, "one"))...), route("two", two, proven(NewServer(b, "two"))...))
		for range 10 {
			if got := greeted(b, local(one)); got != "one" {
				b.Errorf("%s answered at %s", got, one)
			}
			if got := greeted(b, local(two)); got != "two" {
				b.Errorf("%s answered at %s", got, two)
			}
		}
	}},
	{"from one address to all and back", func(b *bench) {
		all := b.port()
		one := deploy.Key{IP: loopback, Port: all.Port}
		servers := proven(NewServer(b, "v1"))
		for range 2 {
			b.apply(route("mail", one, servers...))
			refused(b, netip.AddrPortFrom(loopback2, all.Port))
			if got := greeted(b, local(one)); got != "v1" {
				b.Errorf("%s answered", got)
			}
			b.apply(route("mail", all, servers...))
			if got := greeted(b, netip.AddrPortFrom(loopback2, all.Port)); got != "v1" {
				b.Errorf("%s answered", got)
			}
		}
	}},
	{"IPv6", func(b *bench) {
		if ln, err := net.Listen("tcp", "[::1]:0"); err != nil {
			b.Skipf("this test needs IPv6: %v", err)
		} else if err := ln.Close(); err != nil {
			b.Fatal(err)
		}
		all := b.port()
		b.apply(route("all", all, proven(NewServer(b, "v1"))...))
		for _, ip := range []netip.Addr{loopback, loopback6} {
			if got := greeted(b, netip.AddrPortFrom(ip, all.Port)); got != "v1" {
				b.Errorf("%s answered at %s", got, ip)
			}
		}
		four, six := deploy.Key{IP: netip.IPv4Unspecified(), Port: all.Port}, deploy.Key{IP: netip.IPv6Unspecified(), Port: all.Port}
		b.apply(route("four", four, proven(NewServer(b, "four"))...), route("six", six, proven(NewServer(b, "six"))...))
		for range 10 {
			if got := greeted(b, local(four)); got != "four" {
				b.Errorf("%s answered at %s", got, four)
			}
			if got := greeted(b, local(six)); got != "six" {
				b.Errorf("%s answered at %s", got, six)
			}
		}
		only := deploy.Key{IP: loopback6, Port: all.Port}
		b.apply(route("only", only, proven(NewServer(b, "only"))...))
		refused(b, netip.AddrPortFrom(loopback, all.Port))
		if got := greeted(b, local(only)); got != "only" {
			b.Errorf("%s answered at %s", got, only)
		}
	}},
	{"apps with names that Dokku allows", func(b *bench) {
		var routes []deploy.Route
		for _, name := range []string{
			"mail", "mail.example.org", "mail-2", "mail 2", "mail%2", "mail#2", `mail"2"`, "mail'2'", `mail\2`, "mail$HOME", "mail;quit",
			"mail\n    server evil 127.0.0.1:22", "poçta", "メール", "0", "mail+2", strings.Repeat("é", 127),
		} {
			routes = append(routes, route(name, b.port(), proven(NewServer(b, fmt.Sprintf("server%d", len(routes))))...))
		}
		want := make(map[deploy.Key]service)
		for _, r := range routes {
			want[r.Key] = service{App: r.App, Servers: []netip.AddrPort{r.Servers[0].Addr}}
		}
		wanted := make(map[deploy.Key]string)
		for _, r := range routes {
			wanted[r.Key] = r.Servers[0].Container
		}
		b.apply(routes...)
		b.serving(want)
		for listen, name := range wanted {
			if got := greeted(b, local(listen)); got != name {
				b.Errorf("%s answered at %s, want %s", got, listen, name)
			}
		}
		b.apply()
		b.serving(map[deploy.Key]service{})
	}},
}
