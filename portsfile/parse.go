package portsfile

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxSize is the size of the largest file that is read, in bytes.
	MaxSize = 64 << 10
	// MaxPorts is how many public ports one file may map.
	MaxPorts = 1024
)

// expected is what a line's mapping can look like, for messages.
const expected = "expected PUBLIC:PRIVATE or BIND:PUBLIC:PRIVATE, such as 25:5025, 53:5353/udp or 127.0.0.1:5432:5432"

// Parse reads a PORTS file. Its name goes into the errors. The entries are in the file's order and no two of them overlap.
//
// The error is an [ErrorList]. Beside it Parse returns the entries of the lines that are right, so that a caller can say what else
// is wrong with them; a file with an error is not to come into force. A caller that reads src from an untrusted place need not read
// more than MaxSize+1 bytes.
func (l Language[O]) Parse(name string, src []byte) ([]Entry[O], error) {
	p := parser[O]{options: l.Options(), file: name, line: 1, claims: newClaims[O]()}
	switch {
	case len(src) > MaxSize:
		p.fail(1, "the file is larger than %d KiB: is it really a PORTS file?", MaxSize>>10)
		return p.result()
	case bytes.HasPrefix(src, []byte("\xff\xfe")), bytes.HasPrefix(src, []byte("\xfe\xff")):
		p.fail(1, "the file is UTF-16 text, as PowerShell writes it: save it as UTF-8")
		return p.result()
	}
	text := strings.TrimPrefix(string(src), "\ufeff")
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimRight(line, "\r"); p.printable(line) {
			line, _, _ = strings.Cut(line, "#")
			p.parseLine(line)
		}
		p.line++
	}
	return p.result()
}

// ParseMapping reads one mapping with its options, without a comment. The error is an [ErrorList] whose errors have a
// column only.
func (l Language[O]) ParseMapping(text string) (Mapping[O], error) {
	p := parser[O]{options: l.Options(), claims: newClaims[O]()}
	if p.printable(text) {
		if mapping, _, found := (token{text, 1}).cut("#"); found {
			p.fail(mapping.end(), `unexpected "#": a comment can be written in a PORTS file only`)
		} else if p.parseLine(text); len(p.entries)+len(p.errs) == 0 {
			p.fail(1, "no mapping: %s", expected)
		}
	}
	entries, err := p.result()
	if err != nil {
		return Mapping[O]{}, err
	}
	return entries[0].Mapping, nil
}

// parser collects the mappings of a file and what is wrong with it.
type parser[O Options[O]] struct {
	options []Option[O]
	file    string
	line    int
	entries []Entry[O]
	claims  claims[O]
	ports   int  // public ports of the entries, and names of them
	full    bool // the error about too many ports is reported
	errs    ErrorList
	omitted int // errors beyond maxErrors, the last of errs stands for them
	held    *[]*Error
}

// fail reports an error in the current line. Errors are reported in the order of their columns.
func (p *parser[O]) fail(column int, format string, args ...any) {
	p.report(&Error{File: p.file, Line: p.line, Column: column, Msg: fmt.Sprintf(format, args...)})
}

func (p *parser[O]) report(e *Error) {
	switch {
	case p.held != nil:
		*p.held = append(*p.held, e)
	case len(p.errs) < maxErrors:
		p.errs = append(p.errs, e)
	case p.omitted == 0:
		e.Msg = ""
		p.errs = append(p.errs, e)
		p.omitted = 1
	default:
		p.omitted++
	}
}

func (p *parser[O]) result() ([]Entry[O], error) {
	if len(p.errs) == 0 {
		return p.entries, nil
	}
	if p.omitted > 0 {
		p.errs[maxErrors].Msg = fmt.Sprintf("errors from here on that are not shown: %d", p.omitted)
	}
	return p.entries, p.errs
}

// printable tells whether a line, its comment included, is text that can be shown on any terminal, and reports the first
// character that is not.
func (p *parser[O]) printable(line string) bool {
	column := 1
	for rest := line; rest != ""; column++ {
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			p.fail(column, "byte 0x%02x is not UTF-8 text: save the file as UTF-8", rest[0])
			return false
		case r == '\r':
			p.fail(column, "carriage return inside a line: end lines with LF or CRLF")
			return false
		case unicode.IsControl(r) && r != '\t':
			p.fail(column, "control character %U: only text, spaces and tabs are allowed", r)
			return false
		}
		rest = rest[size:]
	}
	return true
}

// parseLine reads a line without its comment.
func (p *parser[O]) parseLine(line string) {
	words := split(line)
	if len(words) == 0 {
		return
	}
	before := len(p.errs) + p.omitted
	m, ok := p.parseMapping(words[0])
	if !ok {
		if like := p.lookalike(line); like != "" {
			// Options that the words of another language lack say nothing.
			p.resembles(before, like)
			return
		}
	}
	// Options say who may share the port, but what is wrong with the port comes first.
	wrong := p.later(func() { p.parseOptions(&m, words[1:]) })
	if ok {
		if err := m.Options.Complete(m.Proto, m.Hosts != (ServerNames{})); err != nil {
			p.fail(words[0].column, "%v", err)
		}
	}
	ok = ok && p.claim(words[0].column, m)
	for _, e := range wrong {
		p.report(e)
	}
	if ok && len(p.errs)+p.omitted == before {
		p.entries = append(p.entries, Entry[O]{Mapping: m, Line: p.line})
	}
}

// later returns the errors that read reports, for those before them in the line to be reported first.
func (p *parser[O]) later(read func()) (held []*Error) {
	p.held = &held
	read()
	p.held = nil
	return held
}

// resembles adds what a line looks like to the error that it got, which is the one after the first n.
func (p *parser[O]) resembles(n int, like string) {
	if n < min(len(p.errs), maxErrors) {
		p.errs[n].Like = like
		p.errs[n].Msg += "; this line looks like " + like
	}
}

// claim checks a mapping against the rest of the file, and tells whether it can be had. A mapping beyond the limit is not looked at,
// which bounds the work, and the limit is reported once; a smaller one after it may fit.
func (p *parser[O]) claim(column int, m Mapping[O]) bool {
	// A port of several names counts as often.
	n := m.Public.Len() * len(m.Names())
	if p.ports+n > MaxPorts {
		if !p.full {
			p.fail(column, "too many public ports: %d here and %d before, at most %d can be mapped", n, p.ports, MaxPorts)
		}
		p.full = true
		return false
	}
	p.ports += n
	port, other, why := p.claims.add(Entry[O]{m, p.line})
	if other != nil {
		m.Public = Range{port, port}
		reason := ""
		if why != nil {
			reason = "; " + why.Error()
		}
		p.fail(column, "public port %s is mapped already: it overlaps %s in line %d%s", m.Listen(), shorten(other.String()), other.Line, reason)
	}
	return other == nil
}

// parseOptions reads KEY=VALUE words into m.
func (p *parser[O]) parseOptions(m *Mapping[O], words []token) {
	seen := map[string]int{}
	for _, word := range words {
		key, value, found := word.cut("=")
		if !found || key.text == "" {
			// What follows is most likely a consequence, as the "=" and "imap" in "process = imap".
			p.fail(word.column, `%s is not an option: expected KEY=VALUE, without blanks around "="`, Quote(word.text))
			return
		}
		o, known := find(p.options, key.text)
		first, again := seen[o.Key]
		switch {
		case !known:
			p.fail(key.column, "unknown option %s: known are %s", Quote(key.text), names(p.options))
		case again:
			p.fail(key.column, "option %s is given twice, first in column %d", o.Key, first)
		case value.text == "":
			p.fail(value.column, "option %s has no value: expected %s=%s", o.Key, o.Key, o.Value)
		default:
			p.parseOption(o, m, value)
		}
		if known && !again {
			seen[o.Key] = key.column
		}
	}
}

func (p *parser[O]) parseOption(o Option[O], m *Mapping[O], value token) {
	err := o.parse(m, value.text)
	if item := (*ItemError)(nil); errors.As(err, &item) {
		_, at := value.at(item.Offset)
		p.fail(at.column, "option %s: %v", o.Key, err)
	} else if err != nil {
		p.fail(value.column, "option %s is %s: %v", o.Key, Quote(value.text), err)
	}
}

// Quote makes foreign text safe and short enough for a message.
func Quote(s string) string { return strconv.Quote(shorten(s)) }

func shorten(s string) string {
	const most = 40
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return s
}
