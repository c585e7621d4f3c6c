package deploy

import (
	"net/netip"
	"strings"
	"testing"

	"dokku-expose/portsfile"
)

func listen(t *testing.T, s string, port uint16) Listen {
	t.Helper()
	if s == "" {
		return Listen{Port: port}
	}
	return Listen{IP: netip.MustParseAddr(s), Port: port}
}

func TestOverlaps(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"", "", true},
		{"", "127.0.0.1", true},
		{"", "::1", true},
		{"", "0.0.0.0", true},
		{"0.0.0.0", "127.0.0.1", true},
		{"0.0.0.0", "::1", false},
		{"0.0.0.0", "::", false},
		{"::", "::1", true},
		{"::", "127.0.0.1", false},
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "127.0.0.2", false},
	}
	for _, tt := range tests {
		t.Run(tt.a+" and "+tt.b, func(t *testing.T) {
			a, b := listen(t, tt.a, 25), listen(t, tt.b, 25)
			if a.Overlaps(b) != tt.want || b.Overlaps(a) != tt.want {
				t.Errorf("Overlaps: %v and %v, want %v", a.Overlaps(b), b.Overlaps(a), tt.want)
			}
			if a.Overlaps(listen(t, tt.b, 26)) {
				t.Error("different ports overlap")
			}
		})
	}
}

func TestConflictNamesHolder(t *testing.T) {
	mapping := func(line string) portsfile.Mapping {
		m, err := portsfile.ParseMapping(line)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	var h Holders
	h.Add(expand("mail", "PORTS", 3, mapping("6000-6010:7000-7010"))...)

	free := expand("chat", "PORTS", 1, mapping("6011:1"))[0]
	if c := h.Conflict(free); c != nil {
		t.Errorf("port 6011 is free, but: %v", c)
	}
	c := h.Conflict(expand("chat", "PORTS", 2, mapping("127.0.0.1:6005:1"))[0])
	if c == nil {
		t.Fatal("no conflict on port 6005")
	}
	for _, want := range []string{"127.0.0.1:6005", "PORTS line 2", "mail", "PORTS line 3"} {
		if !strings.Contains(c.Error(), want) {
			t.Errorf("%q does not say %q", c, want)
		}
	}
}

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
		{"reserved port", Policy{Reserved: reserved, Allowed: all, Max: 9}, []Claim{claim("a", 22, 1, "web"), claim("a", 80, 1, "web")}, []string{"reserved-ports", "reserved-ports"}},
		{"reserved port that the operator allowed the app", Policy{Reserved: reserved, Allowed: all, Own: reserved[:1], Max: 9}, []Claim{claim("a", 22, 1, "web")}, nil},
		{"port that is not allowed", Policy{Allowed: reserved, Max: 9}, []Claim{claim("a", 25, 1, "web")}, []string{"allowed-ports"}},
		{"too many", Policy{Allowed: all, Max: 1}, []Claim{claim("a", 25, 1, "web"), claim("a", 26, 1, "web"), claim("a", 27, 1, "web")}, []string{"max-ports"}},
		{
			"address that may not be bound",
			Policy{Allowed: all, Max: 9, Bind: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
			[]Claim{claim("a", 25, 1, "web"), {Listen: listen(t, "127.0.0.1", 26)}, {Listen: listen(t, "10.0.0.1", 27)}, {Listen: listen(t, "0.0.0.0", 28)}},
			[]string{"allow-bind", "allow-bind", "allow-bind"},
		},
		{
			"every IPv4 address may be bound, so 0.0.0.0 may, but not IPv6",
			Policy{Allowed: all, Max: 9, Bind: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}},
			[]Claim{claim("a", 25, 1, "web"), {Listen: listen(t, "0.0.0.0", 26)}, {Listen: listen(t, "::1", 27)}},
			[]string{"allow-bind", "allow-bind"},
		},
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
