package deploy

import (
	"slices"
	"strings"
	"testing"
)

func TestConflictNamesHolder(t *testing.T) {
	mapping := func(line string) Mapping {
		m, err := ParseMapping(line)
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

// All that one app holds is one line, with one command where an operator gave it the ports.
func TestConflictsAreOneLineForEachHolder(t *testing.T) {
	claims := func(app, file string, lines ...string) []Claim {
		var all []Claim
		for i, line := range lines {
			m, err := ParseMapping(line)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, expand(app, file, i+1, m)...)
		}
		return all
	}
	var h Holders
	h.Add(claims("chat", "PORTS", "5000-5999:5000-5999")...)
	h.Add(claims("chat", "", "6000-6010:6000-6010", "127.0.0.1:7000:7000")...)
	h.Add(claims("idle", "PORTS", "25:25")...)
	var all []*Conflict
	for _, c := range claims("mail", "PORTS", "25:1", "5100-5999:5100-5999", "6005-6006:1-2", "7000:1", "8000:1") {
		if conflict := h.Conflict(c); conflict != nil {
			all = append(all, conflict)
		}
	}
	want := []string{
		"public port 25 (PORTS line 1) belongs to the app idle already (PORTS line 1, public port 25); use another port, or take it out of PORTS of idle and deploy that",
		"public ports 5100-5999 (PORTS line 2) belong to the app chat already (PORTS line 1, public ports 5100-5999); use other ports, or take them out of PORTS of chat and deploy that",
		"public ports 6005-6006, 7000 (PORTS lines 3-4) belong to the app chat already (expose:add, public ports 6005-6006, 127.0.0.1:7000); use other ports, or free them there: dokku expose:remove chat 6000-6010 127.0.0.1:7000",
	}
	var got []string
	for _, c := range ByHolder(all) {
		got = append(got, c.Error())
	}
	if !slices.Equal(got, want) {
		t.Errorf("conflicts:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
