package deploy

import (
	"net/netip"
	"strings"
	"testing"

	"dokku-expose/portsfile"
)

func TestPolicy(t *testing.T) {
	all := []portsfile.Range{{First: 1, Last: 65535}}
	reserved := []portsfile.Range{{First: 22, Last: 22}, {First: 80, Last: 80}}
	tests := []struct {
		name   string
		policy Policy
		claims []Claim
		want   []string // rules
	}{
		{"free port", Policy{Reserved: reserved, Allowed: all, Max: 9}, []Claim{claim("a", 25, 1, "web")}, nil},
		{"reserved port", Policy{Reserved: reserved, Allowed: all, Max: 9}, []Claim{claim("a", 22, 1, "web"), claim("a", 80, 1, "web")}, []string{"reserved-ports"}},
		{"reserved port that the operator allowed the app", Policy{Reserved: reserved, Allowed: all, Own: reserved[:1], Max: 9}, []Claim{claim("a", 22, 1, "web")}, nil},
		{"port that is not allowed", Policy{Allowed: reserved, Max: 9}, []Claim{claim("a", 25, 1, "web")}, []string{"allowed-ports"}},
		{"too many", Policy{Allowed: all, Max: 1}, []Claim{claim("a", 25, 1, "web"), claim("a", 26, 1, "web"), claim("a", 27, 1, "web")}, []string{"max-ports"}},
		{
			"address that may not be bound",
			Policy{Allowed: all, Max: 9, Bind: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
			[]Claim{claim("a", 25, 1, "web"), {Key: listen(t, "127.0.0.1", 26)}, {Key: listen(t, "10.0.0.1", 27)}, {Key: listen(t, "0.0.0.0", 28)}},
			[]string{"allow-bind"},
		},
		{
			"every IPv4 address may be bound, so 0.0.0.0 may, but not IPv6",
			Policy{Allowed: all, Max: 9, Bind: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}},
			[]Claim{claim("a", 25, 1, "web"), {Key: listen(t, "0.0.0.0", 26)}, {Key: listen(t, "::1", 27)}},
			[]string{"allow-bind"},
		},
		{
			"port that asks clients for no certificate",
			Policy{Allowed: all, Max: 9, ClientCA: "PEM"},
			[]Claim{claim("a", 25, 1, "web"), {Key: Key{Port: 26}}, {Key: Key{Port: 27}, File: "PORTS", Line: 2, Options: Options{TLS: PassTLS}}, {Key: Key{Port: 28}, File: "PORTS", Line: 3, Options: Options{TLS: TerminateTLS}}},
			[]string{"client-ca"},
		},
		{"port that asks clients for a certificate by the setting", Policy{Allowed: all, Max: 9, ClientCA: "PEM", Options: Options{TLS: TerminateTLS}}, []Claim{claim("a", 25, 1, "web")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			refusals := tt.policy.Check("a", tt.claims)
			var rules []string
			for _, r := range refusals {
				rules = append(rules, r.Rule)
				if !strings.Contains(r.Error(), "dokku expose:set a "+strings.Replace(r.Rule, "reserved", "allowed", 1)) {
					t.Errorf("%q names no command that would allow it", r)
				}
			}
			if strings.Join(rules, " ") != strings.Join(tt.want, " ") {
				t.Errorf("refused by %v, want %v", rules, tt.want)
			}
		})
	}
}

// One command allows all that a rule refuses, and takes away nothing that is allowed already.
func TestRefusalIsOneLineWithOneCommand(t *testing.T) {
	all := []portsfile.Range{{First: 1, Last: 65535}}
	line := func(n int, public uint16) Claim {
		c := claim("mail", public, 5025, "web")
		c.Line = n
		return c
	}
	var many []Claim
	for i := range 1024 {
		many = append(many, line(i+1, uint16(3000+i)))
	}
	bound := func(ip string, port uint16) Claim {
		c := line(1, port)
		c.Key = listen(t, ip, port)
		return c
	}
	asks := func(n int, option string) Claim {
		c := line(n, uint16(3000+n))
		c.Options = options(t, option)
		return c
	}
	for _, tt := range []struct {
		name   string
		policy Policy
		claims []Claim
		want   []string
	}{
		{
			"reserved ports, one of which is the app's already",
			Policy{Reserved: []portsfile.Range{{First: 22, Last: 22}, {First: 80, Last: 81}, {First: 443, Last: 443}}, Own: []portsfile.Range{{First: 443, Last: 443}}, Allowed: all, Max: 9},
			[]Claim{line(1, 443), line(2, 22), line(4, 80), line(5, 81)},
			[]string{"public ports 22, 80-81 (PORTS lines 2, 4-5): ports 22, 80-81 are reserved on this host (setting reserved-ports); " +
				"use other ones, or have an operator allow them: dokku expose:set mail allowed-ports 22,80-81,443"},
		}, {
			"ports that are reserved, and ports that are not allowed",
			Policy{Reserved: []portsfile.Range{{First: 22, Last: 22}}, Allowed: []portsfile.Range{{First: 1, Last: 99}}, Max: 9},
			[]Claim{line(1, 22), line(2, 100)},
			[]string{"public port 22 (PORTS line 1): port 22 is reserved on this host (setting reserved-ports); " +
				"use another one, or have an operator allow it: dokku expose:set mail allowed-ports 22,100",
				"public port 100 (PORTS line 2): port 100 is not among those that apps may use (setting allowed-ports); " +
					"use another one, or have an operator allow it: dokku expose:set mail allowed-ports 22,100"},
		}, {
			"a thousand ports, each in a line of its own", Policy{Max: 1024}, many,
			[]string{"public ports 3000-4023 (PORTS lines 1-1024): ports 3000-4023 are not among those that apps may use (setting allowed-ports); " +
				"use other ones, or have an operator allow them: dokku expose:set mail allowed-ports 3000-4023"},
		}, {
			"an address, where others may be bound",
			Policy{Bind: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.2/32")}, Allowed: all, Max: 9},
			[]Claim{bound("10.0.0.1", 25), bound("10.0.0.1", 26), bound("127.0.0.1", 27)},
			[]string{"public ports 10.0.0.1:25-26 (PORTS line 1): 10.0.0.1 is not among the addresses that apps may bind (setting allow-bind); " +
				"use other ones, or have an operator allow them: dokku expose:set mail allow-bind 127.0.0.0/8,10.0.0.2,10.0.0.1"},
		}, {
			"a port and its address, and too many",
			Policy{Reserved: all, Bind: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Allowed: all},
			[]Claim{line(1, 22)},
			[]string{"dokku expose:set mail allowed-ports 22", "dokku expose:set mail allow-bind any", "dokku expose:set mail max-ports 1"},
		}, {
			"clients of two kinds", Policy{Options: options(t, "allow=10.0.0.0/8"), Allowed: all, Max: 9},
			[]Claim{asks(1, "allow=192.0.2.1"), asks(2, "allow=192.0.2.2")},
			[]string{"dokku expose:set mail allow 10.0.0.0/8,192.0.2.1,192.0.2.2", "dokku expose:set mail allow 10.0.0.0/8,192.0.2.1,192.0.2.2"},
		}, {
			"proxies of two kinds, of which there can be one only", Policy{Options: options(t, "allow=10.0.0.0/8"), Allowed: all, Max: 9},
			[]Claim{asks(1, "accept-proxy=192.0.2.1"), asks(2, "accept-proxy=192.0.2.2")},
			[]string{"leave it out, and have an operator name them: dokku expose:set mail accept-proxy 192.0.2.1,192.0.2.2", "leave it out, and"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refusals := tt.policy.Check("mail", tt.claims)
			if len(refusals) != len(tt.want) {
				t.Fatalf("refused: %v, want %d refusals", refusals, len(tt.want))
			}
			for i, r := range refusals {
				if !strings.Contains(r.Error(), tt.want[i]) {
					t.Errorf("refusal %d is\n%s\nwant\n%s", i, r, tt.want[i])
				}
			}
		})
	}
}
