package portsfile

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestReadmeListsAllOptions(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := []string{"| option | default | meaning |", "| --- | --- | --- |"}
	for _, o := range options {
		rows = append(rows, fmt.Sprintf("| `%s=%s` | %s | %s |", o.key, strings.ReplaceAll(o.value, "|", `\|`), o.fallback, o.doc))
	}
	if want := strings.Join(rows, "\n") + "\n\n"; !strings.Contains(string(text), want) {
		t.Errorf("the README's table of options should be:\n%s", want)
	}
}

func TestNetworks(t *testing.T) {
	prefixes := func(list ...string) (found []netip.Prefix) {
		for _, s := range list {
			found = append(found, netip.MustParsePrefix(s))
		}
		return found
	}
	for _, tt := range []struct {
		text string
		want []netip.Prefix
	}{
		{"none", nil},
		{"10.0.0.0/8", prefixes("10.0.0.0/8")},
		{"::1,192.0.2.1", prefixes("192.0.2.1/32", "::1/128")},
		{"::/0,0.0.0.0/0", prefixes("0.0.0.0/0", "::/0")},
		{"10.128.0.0/9, 10.0.0.0/8 ,10.0.0.0/9", prefixes("10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9")},
	} {
		t.Run(tt.text, func(t *testing.T) {
			n, err := ParseNetworks(tt.text)
			if err != nil || n.IsZero() || !slices.Equal(n.Prefixes(), tt.want) {
				t.Fatalf("got %v, %v, want %v", n.Prefixes(), err, tt.want)
			}
			if again := NetworksOf(n.Prefixes()...); again != n {
				t.Errorf("%q and %q are the same networks", again, n)
			}
		})
	}
	if n := (Networks{}); !n.IsZero() || n.String() != "" || n.Prefixes() != nil || n == NetworksOf() {
		t.Errorf("the zero value is %q", n)
	}
}

// Engines get their options as JSON, and keep them as text.
func TestOptionsSurvive(t *testing.T) {
	const all = "allow=10.0.0.0/8,2001:db8::/32 proxy-protocol=v2 accept-proxy=none max-connections=7 rate=3/10s idle-timeout=1.5s balance=source check=off"
	for _, text := range []string{"", all} {
		o, err := ParseOptions(text)
		if err != nil || o.String() != text {
			t.Fatalf("%q is read as %q, %v", text, o, err)
		}
		encoded, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		var decoded Options
		if err := json.Unmarshal(encoded, &decoded); err != nil || decoded != o {
			t.Errorf("%s is decoded as %q, %v", encoded, decoded, err)
		}
	}
	for _, text := range []string{"allow", "allow=10.0.0.0/8\n", "allow=x", "rate=1/10s rate=1/10s"} {
		if o, err := ParseOptions(text); err == nil {
			t.Errorf("%q is read as %q", text, o)
		}
	}
	for _, encoded := range []string{`{"Allow":"x"}`, `{"Allow":"10.0.0.1/8"}`, `{"Allow":"::1,10.0.0.0/8"}`, `{"Allow":"any"}`, `{"Allow":0}`} {
		var o Options
		if err := json.Unmarshal([]byte(encoded), &o); err == nil {
			t.Errorf("%s is decoded as %q", encoded, o)
		}
	}
}
