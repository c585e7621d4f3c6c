package portsfile

import (
	"strings"
	"unicode/utf8"
)

// token is a piece of a line and the column where it starts.
type token struct {
	text   string
	column int
}

// split returns the words of a line, which stand between spaces and tabs.
func split(line string) []token {
	var words []token
	for rest := (token{line, 1}); ; {
		blanks := len(rest.text) - len(strings.TrimLeft(rest.text, " \t"))
		rest = token{rest.text[blanks:], rest.column + blanks}
		if rest.text == "" {
			return words
		}
		length := strings.IndexAny(rest.text, " \t")
		if length < 0 {
			length = len(rest.text)
		}
		word, after := rest.at(length)
		words = append(words, word)
		rest = after
	}
}

// at divides t before the byte i.
func (t token) at(i int) (before, after token) {
	before = token{t.text[:i], t.column}
	return before, token{t.text[i:], before.end()}
}

// cut is [strings.Cut] for tokens. Without sep, before is t and after is empty at t's end.
func (t token) cut(sep string) (before, after token, found bool) {
	i := strings.Index(t.text, sep)
	if i < 0 {
		return t, token{"", t.end()}, false
	}
	before, after = t.at(i)
	return before, token{after.text[len(sep):], after.column + utf8.RuneCountInString(sep)}, true
}

// end is the column after the last character.
func (t token) end() int { return t.column + utf8.RuneCountInString(t.text) }
