package deploy

import (
	"net/netip"
	"testing"
)

func listen(t *testing.T, s string, port uint16) Key {
	t.Helper()
	if s == "" {
		return Key{Port: port}
	}
	return Key{IP: netip.MustParseAddr(s), Port: port}
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
			a, b := listen(t, tt.a, 25).Frontend(), listen(t, tt.b, 25).Frontend()
			if a.Overlaps(b) != tt.want || b.Overlaps(a) != tt.want {
				t.Errorf("Overlaps: %v and %v, want %v", a.Overlaps(b), b.Overlaps(a), tt.want)
			}
			if a.Overlaps(listen(t, tt.b, 26).Frontend()) {
				t.Error("different ports overlap")
			}
		})
	}
}

func TestPortRanges(t *testing.T) {
	for want, ports := range map[string][]uint16{
		"":                   nil,
		"25":                 {25},
		"25, 587, 6000-6010": {25, 587, 6000, 6001, 6002, 6003, 6004, 6005, 6006, 6007, 6008, 6009, 6010},
		"25-26, 28":          {25, 26, 28},
		"65534-65535":        {65534, 65535},
		"25-26":              {26, 25, 25},
	} {
		if got := PortRanges(ports, ", "); got != want {
			t.Errorf("%v are %q, want %q", ports, got, want)
		}
	}
}
