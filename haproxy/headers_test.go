package haproxy_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy/haproxytest"
)

// The README says which PROXY headers HAProxy does not read, though the built-in engine does (2.4, 2.6 and 3.4 are alike).
func TestHeadersThatHAProxyRefuses(t *testing.T) {
	const v2 = "\r\n\r\n\x00\r\nQUIT\n"
	h := haproxytest.Start(t)
	mail := withOptions(t, route("mail", port(t), enginetest.NewServer(t, "v1")), "accept-proxy=127.0.0.1")
	// HAProxy before 3.0 waits for a header as long as for a container: what it closes sooner, it refuses.
	mail.Hold = time.Minute
	apply(t, h, mail)
	for _, c := range []struct {
		name, text string
		served     bool
	}{
		{"v1", "PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n", true},
		{"v1, of nobody", "PROXY UNKNOWN\r\n", true},
		{"v1, of nobody, with addresses", "PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\n", false},
		{"v1, the first segment of two", "PROXY TCP4 192.0.2.7", false},
		{"v2", v2 + "\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x00\x19", true},
		{"v2, the first segment of two", v2 + "\x21\x11", false},
		{"v2, of no family", v2 + "\x21\x00\x00\x00", false},
		{"v2, of a Unix socket", v2 + "\x21\x31\x00\xd8" + strings.Repeat("/", 216), false},
		{"v2, of UDP", v2 + "\x21\x12\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x00\x19", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := open(t, mail.Key)
			if _, err := io.WriteString(conn, c.text); err != nil {
				t.Fatal(err)
			}
			var name string
			if _, err := fmt.Fscan(conn, &name); (name == "v1") != c.served {
				t.Errorf("got %q, %v; served should be %v", name, err, c.served)
			}
		})
	}
}
