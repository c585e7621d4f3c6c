package dokku

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printer writes with Dokku's prefixes. Like Dokku's own loggers (plugins/common/log.go) it never colours. Every line of a
// message gets the prefix, and what is not printable in one, say from a file's name, is made visible; see [Visible].
//
// A message that can't be written is lost: whoever would have read it is gone, and the work must be finished nevertheless.
type Printer struct {
	// Out and Err are the standard output and error.
	Out, Err io.Writer
	// Quiet leaves steps, headings and details out; see Env.Quiet.
	Quiet bool
}

// Step says what is being done: "-----> ".
func (p *Printer) Step(format string, args ...any) {
	p.progress("-----> ", fmt.Sprintf(format, args...))
}

// Heading says what follows: "=====> ".
func (p *Printer) Heading(format string, args ...any) {
	p.progress("=====> ", fmt.Sprintf(format, args...))
}

// Detail says more about a step, beneath it.
func (p *Printer) Detail(format string, args ...any) {
	p.progress("       ", fmt.Sprintf(format, args...))
}

// Warn says on the standard error what is not as it should be, however quiet it is to be: " !     ".
func (p *Printer) Warn(format string, args ...any) {
	write(p.Err, " !     ", fmt.Sprintf(format, args...))
}

// Fail says on the standard error what went wrong. It prints nothing for nil and for an [ExitError] without an error.
func (p *Printer) Fail(err error) {
	var exit *ExitError
	if err == nil || errors.As(err, &exit) && exit.Err == nil {
		return
	}
	write(p.Err, " !     ", err.Error())
}

func (p *Printer) progress(prefix, message string) {
	if !p.Quiet {
		write(p.Out, prefix, message)
	}
}

// write hands the message over in one piece, so that the lines of hooks that run at once don't mix.
func write(w io.Writer, prefix, message string) {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimRight(message, "\n"), "\n") {
		b.WriteString(prefix + Visible(line) + "\n")
	}
	_, _ = io.WriteString(w, b.String())
}

// Visible returns the text with each character that is not printable as an escape of Go's: "\x1b", "\u202e", "\n". So no
// text can move the cursor, hide what is beside it, or pass for a line of its own.
func Visible(text string) string {
	if strings.IndexFunc(text, hidden) < 0 && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		switch size := utf8.RuneLen(r); {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case hidden(r):
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteString(text[i : i+size])
		}
	}
	return b.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }
