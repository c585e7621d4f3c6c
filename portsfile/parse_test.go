package portsfile_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/portsfile"
)

func TestParseEntries(t *testing.T) {
	entries, err := deploy.ParsePorts("PORTS", "# mail\n25:5025\n\n127.0.0.1:6000-6001:7000-7001 process=imap # both\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []deploy.Entry{
		{Line: 2, Mapping: deploy.Mapping{
			Public: portsfile.Range{First: 25, Last: 25}, Private: portsfile.Range{First: 5025, Last: 5025}, Process: "web",
		}},
		{Line: 4, Mapping: deploy.Mapping{
			Bind:   netip.AddrFrom4([4]byte{127, 0, 0, 1}),
			Public: portsfile.Range{First: 6000, Last: 6001}, Private: portsfile.Range{First: 7000, Last: 7001}, Process: "imap",
		}},
	}
	if len(entries) != len(want) || entries[0] != want[0] || entries[1] != want[1] {
		t.Errorf("got %+v, want %+v", entries, want)
	}
}

func TestParseMapping(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		canonical  string
		err        string
	}{
		{name: "mapping", text: "25:5025", canonical: "25:5025"},
		{name: "blanks around", text: "\t25:5025  ", canonical: "25:5025"},
		{name: "option", text: "993:5993 process=imap", canonical: "993:5993 process=imap"},
		{name: "default option", text: "993:5993 process=web", canonical: "993:5993"},
		{name: "IPv6", text: "[0:0::0:1]:1-1:2-2", canonical: "[::1]:1:2"},
		{name: "as many ports as allowed", text: "1-1024:1-1024", canonical: "1-1024:1-1024"},

		{name: "empty", text: "", err: "column 1: no mapping: expected PUBLIC:PRIVATE or BIND:PUBLIC:PRIVATE, " +
			"such as 25:5025, 53:5353/udp or 127.0.0.1:5432:5432"},
		{name: "blank", text: " \t", err: "column 1: no mapping: expected PUBLIC:PRIVATE or BIND:PUBLIC:PRIVATE, " +
			"such as 25:5025, 53:5353/udp or 127.0.0.1:5432:5432"},
		{name: "comment", text: "ä25:5025 # mail", err: `column 10: unexpected "#": a comment can be written in a PORTS file only`},
		{name: "two lines", text: "25:5025\n26:5026", err: "column 8: control character U+000A: only text, spaces and tabs are allowed"},
		{name: "two errors", text: "25:70000 process=", err: "column 4: port 70000 is out of range: expected a number from 1 to 65535\n" +
			"column 18: option process has no value: expected process=TYPE"},
		{name: "too many ports", text: "1-65535:1-65535",
			err: "column 1: too many public ports: 65535 here and 0 before, at most 1024 can be mapped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := deploy.ParseMapping(tt.text)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("error is\n%v\nwant\n%s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := m.String(); got != tt.canonical {
				t.Errorf("canonical form is %q, want %q", got, tt.canonical)
			}
		})
	}
}

// TestOverlap maps one port twice, with each pair of addresses and in both orders.
func TestOverlap(t *testing.T) {
	const every, v4, v6, a4, b4, a6, b6 = "", "0.0.0.0:", "[::]:", "127.0.0.1:", "127.0.0.2:", "[::1]:", "[2001:db8::1]:"
	binds := []string{every, v4, v6, a4, b4, a6, b6}
	overlap := map[[2]string]bool{
		{v4, a4}: true, {v4, b4}: true,
		{v6, a6}: true, {v6, b6}: true,
	}
	for _, bind := range binds {
		overlap[[2]string{bind, bind}] = true
		overlap[[2]string{every, bind}] = true
	}
	for _, first := range binds {
		for _, second := range binds {
			src := fmt.Sprintf("%s25:5025\n%s25:5026\n", first, second)
			want := ""
			if overlap[[2]string{first, second}] || overlap[[2]string{second, first}] {
				want = fmt.Sprintf("PORTS:2:1: public port %s25 is mapped already: it overlaps %s25:5025 in line 1", second, first)
			}
			got := ""
			if _, err := deploy.ParsePorts("PORTS", src); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%q: error is\n%s\nwant\n%s", src, got, want)
			}
		}
	}
}

// TestOverlapNamesTheFirst has a line that overlaps two before it, of which the later one is the closer match.
func TestOverlapNamesTheFirst(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"the wider first", "25:1\n127.0.0.1:25:2\n127.0.0.1:25:3\n", "it overlaps 25:1 in line 1"},
		{"the narrower first", "127.0.0.1:25:1\n25:2\n127.0.0.1:25:3\n", "it overlaps 127.0.0.1:25:1 in line 1"},
		{"what is taken is claimed too", "127.0.0.1:25:1\n25:2\n127.0.0.2:25:3\n", "it overlaps 25:2 in line 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := deploy.ParsePorts("PORTS", tt.src)
			var list portsfile.ErrorList
			if !errors.As(err, &list) || len(list) != 2 {
				t.Fatalf("got %v, want errors in lines 2 and 3", err)
			}
			if list[1].Line != 3 || !strings.HasSuffix(list[1].Msg, tt.want) {
				t.Errorf("got %q, want an error in line 3 that ends with %q", list[1], tt.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	full := "25:5025\n"
	full += strings.Repeat("#", portsfile.MaxSize-len(full))
	ports := strings.Builder{}
	for i := range portsfile.MaxPorts {
		fmt.Fprintf(&ports, "127.0.%d.%d:25:%d\n", i/256, i%256, i+1)
	}
	for _, tt := range []struct{ name, src, err string }{
		{"largest file", full, ""},
		{"file one byte too large", full + "#", "PORTS:1:1: the file is larger than 64 KiB: is it really a PORTS file?"},
		{"as many ports as allowed", ports.String(), ""},
		{"one port too many", ports.String() + "26:1", fmt.Sprintf(
			"PORTS:%d:1: too many public ports: 1 here and 1024 before, at most 1024 can be mapped", portsfile.MaxPorts+1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := deploy.ParsePorts("PORTS", tt.src)
			if got := fmt.Sprint(err); tt.err == "" && err != nil || tt.err != "" && got != tt.err {
				t.Errorf("error is %v, want %q", err, tt.err)
			}
		})
	}
}

func TestGarbageGivesFewErrors(t *testing.T) {
	src := strings.Repeat("\x00\n", portsfile.MaxSize/2)
	_, err := deploy.ParsePorts("PORTS", src)
	var list portsfile.ErrorList
	if !errors.As(err, &list) || len(list) != 21 {
		t.Fatalf("got %v, want an ErrorList of 21", err)
	}
	const want = "PORTS:21:1: errors from here on that are not shown: 32748"
	if got := list[20].Error(); got != want {
		t.Errorf("the last error is %q, want %q", got, want)
	}
}

func TestErrors(t *testing.T) {
	_, err := deploy.ParsePorts("apps/mail/PORTS", "0:1\n1:0\n")
	var first *portsfile.Error
	if !errors.As(err, &first) || first.Line != 1 || first.Column != 1 {
		t.Errorf("errors.As finds %v, want the error in line 1, column 1", first)
	}
	for _, tt := range []struct {
		name string
		err  portsfile.Error
		want string
	}{
		{"all", portsfile.Error{File: "PORTS", Line: 3, Column: 4, Msg: "no port"}, "PORTS:3:4: no port"},
		{"no file", portsfile.Error{Line: 3, Column: 4, Msg: "no port"}, "3:4: no port"},
		{"column only", portsfile.Error{Column: 4, Msg: "no port"}, "column 4: no port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.err.Error(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// BenchmarkParse reads the most expensive files that are allowed: all addresses on one port, so that each is compared with
// all others, and one port a line.
func BenchmarkParse(b *testing.B) {
	var onePort, oneAddress strings.Builder
	for i := range portsfile.MaxPorts {
		fmt.Fprintf(&onePort, "127.0.%d.%d:25:%d\n", i/256, i%256, i+1)
		fmt.Fprintf(&oneAddress, "%d:%d\n", i+1, i+1)
	}
	for _, bb := range []struct{ name, src string }{
		{"1024 addresses on one port", onePort.String()},
		{"1024 ports on every address", oneAddress.String()},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(bb.src)))
			for b.Loop() {
				if _, err := deploy.ParsePorts("PORTS", bb.src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
