package enginetest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/internal/wait"
)

// telling is about the option proxy-protocol, https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt.
var telling = []testCase{
	{"the app hears of its clients", func(b *bench) {
		b.needIPv6()
		for _, version := range []string{"v1", "v2"} {
			app := newHeaderServer(b, version)
			r := with(b, route("mail", b.port(), proven(app)...), "proxy-protocol="+version)
			b.apply(r)
			for _, from := range []netip.Addr{loopback, loopback2, loopback6} {
				c := dialFrom(b, from, r.Key)
				c.wantHeader(c.conn.LocalAddr(), c.conn.RemoteAddr())
				c.echo("hello")
				c.write("last words\n")
				if err := c.conn.CloseWrite(); err != nil {
					b.Fatal(err)
				}
				if rest, err := io.ReadAll(c.lines); err != nil || string(rest) != "last words\n" {
					b.Errorf("got %q, %v", rest, err)
				}
			}
		}
	}},
	{"of those who waited, too", func(b *bench) {
		r := with(b, route("mail", b.port()), "proxy-protocol=v1")
		b.apply(r)
		c := dialFrom(b, loopback2, r.Key)
		c.write("early bird\n")
		r.Servers = proven(newHeaderServer(b, "v1"))
		b.switchTo(r)
		c.wantHeader(c.conn.LocalAddr(), c.conn.RemoteAddr())
		if got := c.line(); got != "early bird" {
			b.Errorf("%q came back", got)
		}
	}},
}

// believing is about the option accept-proxy.
var believing = []testCase{
	{"a header is read of those who are named, and of nobody else", func(b *bench) {
		b.needIPv6()
		app := newHeaderServer(b, "v2")
		r := with(b, route("mail", b.port(), proven(app)...), "proxy-protocol=v2 accept-proxy=127.0.0.2,::1")
		b.apply(r)
		told, asked := netip.MustParseAddrPort("192.0.2.7:4711"), netip.MustParseAddrPort("198.51.100.1:25")
		told6, asked6 := netip.MustParseAddrPort("[2001:db8::7]:4711"), netip.MustParseAddrPort("[2001:db8::1]:25")
		for _, from := range []netip.Addr{loopback2, loopback6} {
			for _, h := range []struct {
				name, text          string
				source, destination netip.AddrPort
			}{
				{"v1", headerV1(told, asked), told, asked},
				{"v1 of IPv6", headerV1(told6, asked6), told6, asked6},
				{"v2", headerV2(told, asked), told, asked},
				{"v2 of IPv6", headerV2(told6, asked6), told6, asked6},
			} {
				c := dialFrom(b, from, r.Key)
				c.write(h.text + "hello\n")
				c.wantHeader(net.TCPAddrFromAddrPort(h.source), net.TCPAddrFromAddrPort(h.destination))
				if got := c.line(); got != "hello" {
					b.Errorf("%s: %q came back", h.name, got)
				}
				c.echo("and more")
			}
			// Its own address counts where it says that it asks for itself.
			for _, text := range []string{unknownV1, localV2} {
				c := dialFrom(b, from, r.Key)
				c.write(text + "hello\n")
				c.wantHeader(c.conn.LocalAddr(), c.conn.RemoteAddr())
				if got := c.line(); got != "hello" {
					b.Errorf("%q came back", got)
				}
			}
			for _, wrong := range []string{"EHLO example.org\r\n", "PROXY TCP4 nonsense\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x00"} {
				c := dialFrom(b, from, r.Key)
				c.write(wrong + strings.Repeat(" ", 200) + "\r\n")
				c.closed()
			}
		}
		// Of others it is nothing but what they say.
		c := dialFrom(b, loopback, r.Key)
		c.write(headerV1(told, asked))
		c.wantHeader(c.conn.LocalAddr(), c.conn.RemoteAddr())
		if got := c.line() + "\n"; got != headerV1(told, asked) {
			b.Errorf("%q came back", got)
		}
	}},
	{"the address that a header tells is the client's", func(b *bench) {
		b.needIPv6()
		r := route("mail", b.port(), proven(NewServer(b, "one"), NewServer(b, "two"), NewServer(b, "three"))...)
		b.apply(with(b, r, "accept-proxy=127.0.0.2 allow=192.0.2.0/24,2001:db8:1::/48,127.0.0.1"))
		asked, asked6 := netip.MustParseAddrPort("198.51.100.1:25"), netip.MustParseAddrPort("[2001:db8::1]:25")
		try := func(source string) *client {
			b.Helper()
			c, told := dialFrom(b, loopback2, r.Key), netip.AddrPortFrom(netip.MustParseAddr(source), 4711)
			if told.Addr().Is4() {
				c.write(headerV1(told, asked))
			} else {
				c.write(headerV2(told, asked6))
			}
			return c
		}
		for _, source := range []string{"192.0.2.7", "2001:db8:1::7", "::ffff:192.0.2.7", "127.0.0.1"} {
			try(source).greeting()
		}
		// The last two are 192.0.2.7 in other clothes, by which somebody with IPv6 could pass for it.
		for _, source := range []string{"192.0.3.7", "2001:db8:2::7", "127.0.0.2", "::1", "::ffff:192.0.3.7", "2002:c000:207::1", "::192.0.2.7"} {
			try(source).closed()
		}
		// Its own address is not among those.
		c := dialFrom(b, loopback2, r.Key)
		c.write(localV2)
		c.closed()
		dialFrom(b, loopback, r.Key).greeting()
		b.rejected(loopback6, r.Key)

		b.switchTo(with(b, r, "accept-proxy=127.0.0.2 allow=2001:db8:2::/48"))
		try("2001:db8:2::7").greeting()
		try("192.0.2.7").closed()

		b.apply(with(b, r, "accept-proxy=127.0.0.2 rate=2/10s"))
		for _, c := range []struct {
			source string
			in     bool
		}{
			{"192.0.2.1", true}, {"192.0.2.1", true}, {"192.0.2.1", false}, {"192.0.2.2", true},
			// A network of IPv6 is one source, and the next one another.
			{"2001:db8:1:1::1", true}, {"2001:db8:1:1:ffff::2", true}, {"2001:db8:1:1::3", false}, {"2001:db8:1:2::1", true},
			// IPv4 addresses are not one network, whatever they are written as.
			{"::ffff:192.0.2.1", false}, {"::ffff:192.0.2.3", true}, {"::ffff:192.0.2.4", true}, {"::ffff:192.0.2.5", true},
		} {
			if c.in {
				try(c.source).greeting()
			} else {
				try(c.source).closed()
			}
		}

		b.apply(with(b, r, "accept-proxy=127.0.0.2 balance=source"))
		chosen := make(map[string]string)
		for i := range 60 {
			source := fmt.Sprintf("192.0.2.%d", i%20)
			got := try(source).greeting()
			if chosen[source] != "" && chosen[source] != got {
				b.Errorf("%s answered %s, who was %s's", got, source, chosen[source])
			}
			chosen[source] = got
		}
		names := make(map[string]bool)
		for _, name := range chosen {
			names[name] = true
		}
		if len(names) < 2 {
			b.Errorf("%v is everybody's", names)
		}
	}},
	{"who is to send a header and does not is closed, and nobody else", func(b *bench) {
		told, asked := netip.MustParseAddrPort("192.0.2.7:4711"), netip.MustParseAddrPort("198.51.100.1:25")
		v1 := NewServer(b, "v1")
		// A short hold, for HAProxy before 3.0 gives a header as long as that and a few seconds.
		mute := with(b, route("mute", b.port(), proven(v1)...), "accept-proxy=127.0.0.2 idle-timeout=2s max-connections=1")
		mute.Hold = time.Second
		idle := with(b, route("idle", b.port(), proven(v1)...), "accept-proxy=127.0.0.2")
		idle.Hold = time.Second
		held := with(b, route("held", b.port()), "accept-proxy=127.0.0.2")
		held.Hold = wait.Patience
		b.apply(mute, idle, held)
		proxied := func(r deploy.Route) *client {
			c := dialFrom(b, loopback2, r.Key)
			c.write(headerV1(told, asked))
			return c
		}

		old, direct := proxied(idle), dialFrom(b, loopback, idle.Key)
		old.greeting()
		direct.greeting()
		waiting := []*client{proxied(held), proxied(held), dialFrom(b, loopback, held.Key)}
		waiting[0].write("early bird\n")
		// With half a header HAProxy does not wait for the rest.
		for _, said := range []string{"", "PROXY TCP4 192.0.2.7", ""} {
			silent := dialFrom(b, loopback2, mute.Key)
			silent.write(said)
			next := dialFrom(b, loopback, mute.Key)
			if said == "" {
				next.silent() // there may be one
			}
			silent.closed()
			next.greeting()
			_ = next.conn.Close()
		}
		// These have said nothing for twice as long.
		old.echo("hello")
		direct.echo("hello")
		held.Servers = proven(v1)
		b.switchTo(mute, idle, held)
		for _, c := range waiting {
			c.greeting()
		}
	}},
}

// wantHeader reads what a headerServer was told, and wants it to be of this connection.
func (c *client) wantHeader(source, destination net.Addr) {
	c.t.Helper()
	if got, want := c.line(), source.String()+" "+destination.String(); got != want {
		c.t.Errorf("the app was told of %s, want %s", got, want)
	}
}

// newHeaderServer is an app that wants a PROXY header. It says what it was told: "SOURCE DESTINATION", and echoes then.
func newHeaderServer(b *bench, version string) *Server {
	return serve(b, "header", func(conn net.Conn) {
		in := bufio.NewReader(conn)
		read := readV1
		if version == "v2" {
			read = readV2
		}
		source, destination, err := read(in)
		if err != nil {
			return
		}
		if _, err := fmt.Fprintln(conn, source, destination); err == nil {
			_, _ = io.Copy(conn, in)
		}
	})
}

func headerV1(source, destination netip.AddrPort) string {
	family := "TCP4"
	if source.Addr().Is6() {
		family = "TCP6"
	}
	return fmt.Sprintf("PROXY %s %s %s %d %d\r\n", family, source.Addr(), destination.Addr(), source.Port(), destination.Port())
}

// readV1 reads a header, readV2 the binary form. The addresses are the zero value where it tells of nobody.
func readV1(in *bufio.Reader) (source, destination netip.AddrPort, err error) {
	line, err := in.ReadString('\n')
	if err != nil || line == unknownV1 {
		return source, destination, err
	}
	var (
		family, from, to string
		fromPort, toPort uint16
	)
	if _, err := fmt.Sscanf(line, "PROXY %s %s %s %d %d\r\n", &family, &from, &to, &fromPort, &toPort); err != nil {
		return source, destination, fmt.Errorf("%q: %w", line, err)
	}
	sourceIP, err := netip.ParseAddr(from)
	if err != nil {
		return source, destination, err
	}
	destinationIP, err := netip.ParseAddr(to)
	source, destination = netip.AddrPortFrom(sourceIP, fromPort), netip.AddrPortFrom(destinationIP, toPort)
	if err == nil && line != headerV1(source, destination) {
		err = fmt.Errorf("%q is not how it is written", line)
	}
	return source, destination, err
}

const (
	unknownV1   = "PROXY UNKNOWN\r\n"
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	localV2     = signatureV2 + "\x20\x00\x00\x00"
)

func headerV2(source, destination netip.AddrPort) string {
	family := byte(0x11)
	if source.Addr().Is6() {
		family = 0x21
	}
	body := append(source.Addr().AsSlice(), destination.Addr().AsSlice()...)
	body = binary.BigEndian.AppendUint16(body, source.Port())
	body = binary.BigEndian.AppendUint16(body, destination.Port())
	head := binary.BigEndian.AppendUint16([]byte(signatureV2+"\x21"+string(family)), uint16(len(body)))
	return string(append(head, body...))
}

func readV2(in *bufio.Reader) (source, destination netip.AddrPort, err error) {
	head := make([]byte, len(signatureV2)+4)
	if _, err := io.ReadFull(in, head); err != nil {
		return source, destination, err
	}
	if !bytes.HasPrefix(head, []byte(signatureV2)) {
		return source, destination, fmt.Errorf("%q is no header", head)
	}
	command, family := head[12], head[13]
	body := make([]byte, binary.BigEndian.Uint16(head[14:]))
	if _, err := io.ReadFull(in, body); err != nil {
		return source, destination, err
	}
	n := map[byte]int{0x11: 4, 0x21: 16}[family]
	switch {
	case command == 0x20:
		return source, destination, nil
	case command != 0x21 || n == 0 || len(body) < 2*n+4:
		return source, destination, fmt.Errorf("command %x, family %x, %d bytes", command, family, len(body))
	}
	sourceIP, _ := netip.AddrFromSlice(body[:n])
	destinationIP, _ := netip.AddrFromSlice(body[n : 2*n])
	ports := body[2*n:]
	return netip.AddrPortFrom(sourceIP, binary.BigEndian.Uint16(ports)), netip.AddrPortFrom(destinationIP, binary.BigEndian.Uint16(ports[2:])), nil
}

// serve is a server of its own kind: talk has each connection, which is closed when it returns.
func serve(b *bench, name string, talk func(net.Conn)) *Server {
	b.Helper()
	s := Reserve(b, name)
	s.talk = talk
	s.Listen()
	return s
}

// announced sends a header with the first bytes.
type announced struct {
	*net.TCPConn
	header []byte
}

func (c *announced) Write(b []byte) (int, error) {
	header := c.header
	c.header = nil
	n, err := c.TCPConn.Write(slices.Concat(header, b))
	return max(0, n-len(header)), err
}
