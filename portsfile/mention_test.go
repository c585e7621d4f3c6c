package portsfile

import (
	"reflect"
	"testing"
)

func TestMentioned(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []Range
	}{
		{"nothing", "", nil},
		{"no number", "{", nil},
		{"mappings that lack a quote", "mappings = [\n  \"25:5025\",\n  \"6000-6010:7000-7010,\n]\n", []Range{{25, 25}, {5025, 5025}, {6000, 6010}, {7000, 7010}}},
		{"lines in a string", `{"text": "25:5025\n26:5026\r\n`, []Range{{25, 26}, {5025, 5026}}},
		{"an address", "127.0.0.1:26", []Range{{1, 1}, {26, 26}, {127, 127}}},
		{"the wrong way round", "20-10", []Range{{10, 10}, {20, 20}}},
		{"zeros in front", "0025", []Range{{25, 25}}},
		{"no ports", "0 65536 123456789012345678901234567890", nil},
		{"parts of words", "sha256:ab12cd3456ef x25 26y", nil},
		{"UTF-16", "2\x005\x00", []Range{{25, 25}}},
		{"the whole space", "1-65535", []Range{{1, 65535}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Mentioned(tt.text); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestJoin(t *testing.T) {
	for _, tt := range []struct{ ranges, want []Range }{
		{nil, nil},
		{[]Range{{443, 443}, {22, 22}, {80, 80}}, []Range{{22, 22}, {80, 80}, {443, 443}}},
		{[]Range{{3, 3}, {1, 1}, {2, 2}, {2, 2}}, []Range{{1, 3}}},
		{[]Range{{1, 10}, {2, 3}, {11, 12}}, []Range{{1, 12}}},
		{[]Range{{65535, 65535}, {1, 65534}}, []Range{{1, 65535}}},
	} {
		if got := Join(tt.ranges); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Join(%v) = %v, want %v", tt.ranges, got, tt.want)
		}
	}
}
