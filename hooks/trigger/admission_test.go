package trigger

import (
	"strings"
	"testing"

	"dokku-expose/deploy"
)

// The refusal names `ports-file ignore` where the file may mean something else, and not where a mapping has a slip in it.
func TestOtherUseOfAFileCalledPorts(t *testing.T) {
	for _, tt := range []struct {
		text string
		want bool
	}{
		{"25:5025\n0:1\n", false},
		{"25:5025\n26:5026 proces=imap\n", false},
		{"25:5025\nweb: 5000\n", true},
		{"see the wiki\n", true},
		{"\xff\xfe2\x00", true},
	} {
		entries, err := deploy.ParsePorts("PORTS", tt.text)
		if err == nil {
			t.Fatalf("%q is no error", tt.text)
		}
		said := withOtherUse("mail", "PORTS", entries, err).Error()
		if got := strings.Contains(said, "dokku expose:set mail ports-file ignore"); got != tt.want || !strings.Contains(said, err.Error()) {
			t.Errorf("%q: it says\n%s", tt.text, said)
		}
	}
}
