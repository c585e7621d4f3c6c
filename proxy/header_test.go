package proxy

import (
	"net/netip"
	"strings"
	"testing"

	"dokku-expose/deploy"
)

func endsOf(source, destination string) *ends {
	return &ends{netip.MustParseAddrPort(source), netip.MustParseAddrPort(destination)}
}

// The examples of the protocol's description, and what it forbids.
func TestParseHeader(t *testing.T) {
	const (
		four = "\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x00\x19"
		six  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
			"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x12\x67\x00\x19"
		mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x07" +
			"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc6\x33\x64\x01\x12\x67\x00\x19"
	)
	told4, told6 := endsOf("192.0.2.7:4711", "198.51.100.1:25"), endsOf("[2001:db8::7]:4711", "[2001:db8::1]:25")
	for _, row := range []struct {
		name, text string
		told       *ends
		wrong      bool
	}{
		{name: "v1", text: "PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n", told: told4},
		{name: "v1, IPv6", text: "PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n", told: told6},
		{name: "v1, IPv4 in IPv6 form", text: "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4711 25\r\n", told: told4},
		{name: "v1, as long as can be", text: "PROXY TCP6 " +
			"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
			told: endsOf("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")},
		{name: "v1, of nobody", text: "PROXY UNKNOWN\r\n"},
		{name: "v1, of nobody, with words", text: "PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\n"},
		{name: "v1, too long", text: "PROXY UNKNOWN " + strings.Repeat("x", maxV1) + "\r\n", wrong: true},
		{name: "v1, another family", text: "PROXY TCP4 2001:db8::7 2001:db8::1 4711 25\r\n", wrong: true},
		{name: "v1, IPv4 as IPv6", text: "PROXY TCP6 192.0.2.7 198.51.100.1 4711 25\r\n", wrong: true},
		{name: "v1, a family that nobody knows", text: "PROXY UDP4 192.0.2.7 198.51.100.1 4711 25\r\n", wrong: true},
		{name: "v1, with a zone", text: "PROXY TCP6 fe80::1%eth0 fe80::2 4711 25\r\n", wrong: true},
		{name: "v1, a name", text: "PROXY TCP4 localhost 198.51.100.1 4711 25\r\n", wrong: true},
		{name: "v1, a port too high", text: "PROXY TCP4 192.0.2.7 198.51.100.1 4711 65536\r\n", wrong: true},
		{name: "v1, a port with a zero", text: "PROXY TCP4 192.0.2.7 198.51.100.1 04711 25\r\n", wrong: true},
		{name: "v1, two blanks", text: "PROXY TCP4  192.0.2.7 198.51.100.1 4711 25\r\n", wrong: true},
		{name: "v1, one word more", text: "PROXY TCP4 192.0.2.7 198.51.100.1 4711 25 x\r\n", wrong: true},
		{name: "v1, no family", text: "PROXY \r\n", wrong: true},
		{name: "v2", text: signatureV2 + "\x21\x11\x00\x0c" + four, told: told4},
		{name: "v2, IPv6", text: signatureV2 + "\x21\x21\x00\x24" + six, told: told6},
		{name: "v2, IPv4 in IPv6 form", text: signatureV2 + "\x21\x21\x00\x24" + mapped, told: told4},
		{name: "v2, with more", text: signatureV2 + "\x21\x11\x00\x12" + four + "\x04\x00\x03abc", told: told4},
		{name: "v2, of the proxy's own", text: signatureV2 + "\x20\x00\x00\x00"},
		{name: "v2, of the proxy's own, with addresses", text: signatureV2 + "\x20\x11\x00\x0c" + four},
		{name: "v2, no family", text: signatureV2 + "\x21\x00\x00\x03abc"},
		{name: "v2, datagrams", text: signatureV2 + "\x21\x12\x00\x0c" + four},
		{name: "v2, a Unix socket", text: signatureV2 + "\x21\x31\x00\xd8" + strings.Repeat("/", 216)},
		{name: "v2, too short", text: signatureV2 + "\x21\x11\x00\x0b" + four, wrong: true},
		{name: "v2, IPv6 too short", text: signatureV2 + "\x21\x21\x00\x0c" + four, wrong: true},
		{name: "v2, as long as can be", text: signatureV2 + "\x21\x11\x3f\xf0" + four + strings.Repeat("x", maxHeader-16-12), told: told4},
		{name: "v2, longer", text: signatureV2 + "\x21\x11\x3f\xf1" + four + strings.Repeat("x", maxHeader-16-11), wrong: true},
		{name: "v3", text: signatureV2 + "\x31\x11\x00\x0c" + four, wrong: true},
		{name: "v2, a command that nobody knows", text: signatureV2 + "\x22\x11\x00\x0c" + four, wrong: true},
		{name: "something else", text: "EHLO example.org\r\n", wrong: true},
		{name: "almost v1", text: "PROXX TCP4 192.0.2.7 198.51.100.1 4711 25\r\n", wrong: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			n, told, err := parseHeader([]byte(row.text + "PROXY of what follows\r\n"))
			if row.wrong {
				if err == nil {
					t.Fatalf("it is read as %v", told)
				}
				return
			}
			if err != nil || n != len(row.text) {
				t.Fatalf("%d of %d bytes, %v", n, len(row.text), err)
			}
			if (told == nil) != (row.told == nil) || told != nil && *told != *row.told {
				t.Errorf("it tells %v, want %v", told, row.told)
			}
			for i := range row.text {
				if n, _, err := parseHeader([]byte(row.text[:i])); n != 0 || err != nil {
					t.Fatalf("the first %d bytes: %d, %v", i, n, err)
				}
			}
		})
	}
}

func headerOf(t testing.TB, e *ends, form deploy.ProxyProtocol) []byte {
	t.Helper()
	text, err := e.header(form, nil)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What is told to an app is what it reads.
func TestHeaderIsReadAsWritten(t *testing.T) {
	for _, e := range []*ends{
		endsOf("192.0.2.7:4711", "198.51.100.1:25"), endsOf("[2001:db8::7]:4711", "[2001:db8::1]:25"),
		// A proxy may have clients of one family, and be a client of the other.
		endsOf("192.0.2.7:4711", "[2001:db8::1]:25"), endsOf("[2001:db8::7]:4711", "198.51.100.1:25"),
	} {
		for _, form := range []deploy.ProxyProtocol{deploy.ProxyV1, deploy.ProxyV2} {
			text := headerOf(t, e, form)
			if n, told, err := parseHeader(text); err != nil || n != len(text) || told == nil || *told != *e {
				t.Errorf("%q is read as %v, %v", text, told, err)
			}
		}
	}
}

// Whatever comes: a header is as long whatever follows it, nobody knows it before it is complete, and it tells what can be told on.
func FuzzHeader(f *testing.F) {
	for _, e := range []*ends{endsOf("192.0.2.7:4711", "198.51.100.1:25"), endsOf("[2001:db8::7]:4711", "[2001:db8::1]:25")} {
		for _, form := range []deploy.ProxyProtocol{deploy.ProxyV1, deploy.ProxyV2} {
			f.Add(append(headerOf(f, e, form), "what follows"...))
		}
	}
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(signatureV2 + "\x20\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, told, err := parseHeader(b)
		switch {
		case n < 0 || n > len(b) || n > maxHeader || err != nil && (n > 0 || told != nil) || n == 0 && told != nil:
			t.Fatalf("%d bytes, %v, %v", n, told, err)
		case err != nil:
			if _, _, err := parseHeader(append(b[:len(b):len(b)], 0)); err == nil {
				t.Fatal("with one byte more it is right")
			}
			return
		}
		for i := range n {
			if n, _, err := parseHeader(b[:i]); n != 0 || err != nil {
				t.Fatalf("the first %d bytes: %d, %v", i, n, err)
			}
		}
		if told == nil {
			return
		}
		for _, form := range []deploy.ProxyProtocol{deploy.ProxyV1, deploy.ProxyV2} {
			if _, again, err := parseHeader(headerOf(t, told, form)); err != nil || *again != *told {
				t.Errorf("%v is told on as %v, %v", told, again, err)
			}
		}
	})
}
