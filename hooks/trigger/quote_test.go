package trigger

import (
	"strings"
	"testing"
)

func TestQuoted(t *testing.T) {
	for line, want := range map[string]string{
		"a\tb\r":                             "a    b",
		strings.Repeat("é", quotedWidth):     strings.Repeat("é", quotedWidth),
		strings.Repeat("é", quotedWidth+100): strings.Repeat("é", quotedWidth) + "...",
	} {
		if got := quoted(line); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
