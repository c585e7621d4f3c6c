package portsfile_test

import (
	"net/netip"
	"slices"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/portsfile"
)

func TestRange(t *testing.T) {
	for _, tt := range []struct {
		name    string
		r       portsfile.Range
		length  int
		text    string
		inside  []uint16
		outside []uint16
	}{
		{"one port", portsfile.Range{First: 25, Last: 25}, 1, "25", []uint16{25}, []uint16{0, 24, 26}},
		{"several", portsfile.Range{First: 6000, Last: 6010}, 11, "6000-6010", []uint16{6000, 6005, 6010}, []uint16{5999, 6011}},
		{"every port", portsfile.Range{First: 1, Last: 65535}, 65535, "1-65535", []uint16{1, 65535}, []uint16{0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.r.Len(); got != tt.length {
				t.Errorf("Len is %d, want %d", got, tt.length)
			}
			if got := tt.r.String(); got != tt.text {
				t.Errorf("String is %q, want %q", got, tt.text)
			}
			for _, port := range tt.inside {
				if !tt.r.Contains(port) {
					t.Errorf("does not contain %d", port)
				}
			}
			for _, port := range tt.outside {
				if tt.r.Contains(port) {
					t.Errorf("contains %d", port)
				}
			}
		})
	}
}

func TestMappingPorts(t *testing.T) {
	type pair struct{ public, private uint16 }
	for _, tt := range []struct {
		text string
		want []pair
	}{
		{"25:5025", []pair{{25, 5025}}},
		{"6000-6002:7000-7002", []pair{{6000, 7000}, {6001, 7001}, {6002, 7002}}},
		{"65534-65535:1-2", []pair{{65534, 1}, {65535, 2}}},
		{"1-2:65534-65535", []pair{{1, 65534}, {2, 65535}}},
	} {
		t.Run(tt.text, func(t *testing.T) {
			m, err := deploy.ParseMapping(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			var got []pair
			for public, private := range m.Ports() {
				got = append(got, pair{public, private})
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			for public := range m.Ports() {
				if public != m.Public.First {
					t.Errorf("went on to %d after a break", public)
				}
				break
			}
		})
	}
}

func TestFormatKeepsTheOrder(t *testing.T) {
	ms := []deploy.Mapping{
		{Public: portsfile.Range{First: 993, Last: 993}, Private: portsfile.Range{First: 5993, Last: 5993}, Process: "imap"},
		{
			Bind:   netip.MustParseAddr("::1"),
			Public: portsfile.Range{First: 25, Last: 26}, Private: portsfile.Range{First: 5025, Last: 5026},
			Process: portsfile.DefaultProcess,
		},
	}
	const want = "993:5993 process=imap\n[::1]:25-26:5025-5026\n"
	if got := string(portsfile.Format(ms)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := portsfile.Format[deploy.Options](nil); len(got) != 0 {
		t.Errorf("no mappings give %q", got)
	}
}
