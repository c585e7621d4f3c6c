package portsfile_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"dokku-expose/deploy"
	"dokku-expose/portsfile"
)

// FuzzParse checks what holds for every input. The golden tests' files are its seeds.
func FuzzParse(f *testing.F) {
	for _, input := range inputs(f) {
		src, err := os.ReadFile(input)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		entries, err := deploy.ParsePorts("PORTS", string(src))
		if err != nil {
			checkErrors(t, src, err)
		}
		checkEntries(t, src, entries)

		crlf := bytes.ReplaceAll(src, []byte("\n"), []byte("\r\n"))
		if len(crlf) <= portsfile.MaxSize {
			entriesCRLF, errCRLF := deploy.ParsePorts("PORTS", string(crlf))
			if !slices.Equal(entriesCRLF, entries) || !reflect.DeepEqual(errCRLF, err) {
				t.Errorf("with CRLF line ends: %v, %v\nwith LF: %v, %v", entriesCRLF, errCRLF, entries, err)
			}
		}
	})
}

func checkErrors(t *testing.T, src []byte, err error) {
	t.Helper()
	var list portsfile.ErrorList
	if !errors.As(err, &list) || len(list) == 0 || len(list) > 21 {
		t.Fatalf("error is not an ErrorList of 1 to 21 errors: %v", err)
	}
	lines := strings.Split(strings.TrimPrefix(string(src), "\ufeff"), "\n")
	for _, e := range list {
		if e.Line < 1 || e.Line > len(lines) {
			t.Fatalf("%q is in no line of %d", e, len(lines))
		}
		if end := utf8.RuneCountInString(lines[e.Line-1]) + 1; e.Column < 1 || e.Column > end {
			t.Errorf("%q is outside of line %q", e, lines[e.Line-1])
		}
		if e.Msg == "" || len(e.Msg) > 600 || strings.ContainsFunc(e.Msg, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("message is not one short printable line: %q", e.Msg)
		}
	}
	if !slices.IsSortedFunc(list, func(a, b *portsfile.Error) int {
		return slices.Compare([]int{a.Line, a.Column}, []int{b.Line, b.Column})
	}) {
		t.Errorf("errors are not in the file's order:\n%v", list)
	}
}

func checkEntries(t *testing.T, src []byte, entries []deploy.Entry) {
	t.Helper()
	if len(src) > portsfile.MaxSize && len(entries) > 0 {
		t.Errorf("%d bytes were read", len(src))
	}
	ports, line := 0, 0
	for i, e := range entries {
		if e.Line <= line {
			t.Errorf("line %d comes after line %d", e.Line, line)
		}
		line = e.Line
		ports += e.Public.Len() * len(e.Names())
		checkMapping(t, e.Mapping)
		for _, other := range entries[:i] {
			if overlap(e.Mapping, other.Mapping) {
				t.Errorf("line %d, %s, overlaps line %d, %s", e.Line, e, other.Line, other)
			}
		}
	}
	if ports > portsfile.MaxPorts {
		t.Errorf("%d ports are mapped", ports)
	}

	canonical := portsfile.Format(mappings(entries))
	again, err := deploy.ParsePorts("canonical", string(canonical))
	if err != nil || !slices.Equal(mappings(again), mappings(entries)) {
		t.Errorf("Parse(Format(m)) is %v, %v\nwant %v", again, err, entries)
	}
}

func checkMapping(t *testing.T, m deploy.Mapping) {
	t.Helper()
	if m.Public.First < 1 || m.Public.First > m.Public.Last || m.Private.First < 1 || m.Private.First > m.Private.Last ||
		m.Public.Len() != m.Private.Len() {
		t.Errorf("%s has invalid ranges", m)
	}
	if m.Bind.Zone() != "" || m.Bind.Is4In6() {
		t.Errorf("bind address %s is not canonical", m.Bind)
	}
	if m.Process == "" || len(m.Process) > 63 || strings.ContainsFunc(m.Process, func(r rune) bool {
		return r != '-' && r != '_' && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	}) {
		t.Errorf("process type is %q", m.Process)
	}
	for _, networks := range []deploy.Networks{m.Options.Allow, m.Options.AcceptProxy} {
		checkNetworks(t, networks)
	}
	if o := m.Options; o.Rate < 0 || o.MaxConnections < 0 || o.IdleTimeout < 0 || o.IdleTimeout > deploy.MaxIdleTimeout {
		t.Errorf("options are %+v", o)
	}
	if again, err := deploy.ParseOptions(m.Options.String()); err != nil || again != m.Options {
		t.Errorf("ParseOptions(%q) is %v, %v", m.Options, again, err)
	}
	if again, err := deploy.ParseMapping(m.String()); err != nil || again != m {
		t.Errorf("ParseMapping(%q) is %v, %v", m.String(), again, err)
	}
}

func checkNetworks(t *testing.T, n deploy.Networks) {
	t.Helper()
	prefixes := n.Prefixes()
	if len(prefixes) > deploy.MaxNetworks || n.IsZero() && len(prefixes) > 0 {
		t.Errorf("%q is %d networks", n, len(prefixes))
	}
	for _, p := range prefixes {
		if !p.IsValid() || p != p.Masked() || p.Addr().Zone() != "" || p.Addr().Is4In6() && p.Bits() >= 96 {
			t.Errorf("network %s is not canonical", p)
		}
	}
	if again, err := deploy.ParseNetworks(n.String()); again != n || err != nil && !n.IsZero() {
		t.Errorf("ParseNetworks(%q) is %q, %v", n, again, err)
	}
}

// overlap compares two mappings the plain way, by their ranges and addresses.
func overlap(a, b deploy.Mapping) bool {
	if a.Proto != b.Proto || a.Public.Last < b.Public.First || b.Public.Last < a.Public.First {
		return false
	}
	covers := func(a, b netip.Addr) bool {
		return a == netip.Addr{} || a == b || a.IsUnspecified() && b.IsValid() && a.Is4() == b.Is4()
	}
	if a.Bind == b.Bind && a.Options.Beside(b.Options) == nil {
		return slices.ContainsFunc(a.Names(), func(name string) bool { return slices.Contains(b.Names(), name) })
	}
	return covers(a.Bind, b.Bind) || covers(b.Bind, a.Bind)
}
