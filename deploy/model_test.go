package deploy

import (
	"encoding/json"
	"net/netip"
	"testing"
)

// A key is written in JSON as people write it, and has one form.
func TestKeyAsText(t *testing.T) {
	for text, want := range map[string]Key{
		"25":                      {Port: 25},
		"53/udp":                  {Proto: UDP, Port: 53},
		"443@mail.example.com":    {Port: 443, ServerName: "mail.example.com"},
		"[::1]:443@*.example.com": {IP: netip.MustParseAddr("::1"), Port: 443, ServerName: "*.example.com"},
		"853/udp@dns.example.com": {Proto: UDP, Port: 853, ServerName: "dns.example.com"},
		"127.0.0.1:5432":          {IP: netip.MustParseAddr("127.0.0.1"), Port: 5432},
		"[::1]:53/udp":            {Proto: UDP, IP: netip.MustParseAddr("::1"), Port: 53},
	} {
		var got Key
		if err := json.Unmarshal([]byte(`"`+text+`"`), &got); err != nil || got != want || got.String() != text {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	for _, wrong := range []string{"", "x", "65536", "-1", "25/tcp", ":25", "localhost:25", "25/udp/udp", "443@", "443@192.0.2.1", "443@a@b", "@mail.example.com"} {
		var got Key
		if err := got.UnmarshalText([]byte(wrong)); err == nil {
			t.Errorf("%q is taken for %s", wrong, got)
		}
	}
}
