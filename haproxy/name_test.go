package haproxy

import (
	"net/netip"
	"regexp"
	"testing"

	"dokku-expose/deploy"
)

// allowed is what HAProxy takes for a proxy's name (configuration manual, 4).
var allowed = regexp.MustCompile(`^[-_.:A-Za-z0-9]+$`)

func TestProxyName(t *testing.T) {
	for _, c := range []struct {
		name, app, ip string
		port          uint16
		want          string
	}{
		{"plain", "mail", "", 25, "mail:25"},
		{"dots and dashes", "mail-2.example", "", 25, "mail-2.example:25"},
		{"IPv4", "db", "127.0.0.1", 5432, "db:5432:127.0.0.1"},
		{"IPv6", "db", "::1", 5432, "db:5432:_3A_3A1"},
		{"every IPv6", "db", "::", 5432, "db:5432:_3A_3A"},
		{"other bytes", "a b\n#é", "", 25, "a_20b_0A_23_C3_A9:25"},
		{"what looks escaped", "a_20b", "", 25, "a_5F20b:25"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := deploy.Key{Port: c.port}
			if c.ip != "" {
				l.IP = netip.MustParseAddr(c.ip)
			}
			if got := proxyName(c.app, l); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestParseNameOfOthers(t *testing.T) {
	for _, name := range []string{"", "stats", "mail", "mail:", "mail:port", "mail:70000", "mail:25:nowhere", "a:1:2:3", "a_2:25", "a_ZZ:25", "<HTTPCLIENT>"} {
		if app, l, ok := parseName(name); ok {
			t.Errorf("%q is taken for public port %s of %s", name, l, app)
		}
	}
}

// FuzzProxyName shows that a name is one that HAProxy takes, and that no other route has it: it leads back to its own.
func FuzzProxyName(f *testing.F) {
	for _, app := range []string{"mail", "a b", "a_b", "a:25", "é\n", "%41", ""} {
		f.Add(app, uint16(25), []byte(nil))
		f.Add(app, uint16(65535), netip.IPv6LinkLocalAllNodes().AsSlice())
	}
	f.Fuzz(func(t *testing.T, app string, port uint16, ip []byte) {
		l := deploy.Key{Port: port}
		l.IP, _ = netip.AddrFromSlice(ip)
		name := proxyName(app, l)
		if !allowed.MatchString(name) {
			t.Fatalf("%q is no name", name)
		}
		if gotApp, gotListen, ok := parseName(name); !ok || gotApp != app || gotListen != l {
			t.Fatalf("%q leads to %q, %v, %v, not to %q, %v", name, gotApp, gotListen, ok, app, l)
		}
	})
}
