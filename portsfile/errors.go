package portsfile

import (
	"fmt"
	"strings"
)

// maxErrors bounds what one file can make its reader print.
const maxErrors = 20

// Error is one thing that is wrong with a PORTS file.
type Error struct {
	// File is the name that [Language.Parse] was given; "" from [Language.ParseMapping].
	File string
	// Line counts from 1; 0 from [Language.ParseMapping].
	Line int
	// Column counts characters from 1. What is missing at a line's end is one past its last character.
	Column int
	// Msg says what is wrong and what was expected. It is printable text on one line, whatever the file holds.
	Msg string
	// Like is what the line looks like if it is none of a PORTS file, as "YAML"; "" when it looks like nothing else.
	Like string
}

// Error returns "FILE:LINE:COLUMN: message", the form that editors and CI systems make links of, without the pieces that
// are empty; with nothing but a column it returns "column COLUMN: message".
func (e *Error) Error() string {
	var where []string
	if e.File != "" {
		where = append(where, e.File)
	}
	if e.Line != 0 {
		where = append(where, fmt.Sprint(e.Line))
	}
	if len(where) == 0 {
		return fmt.Sprintf("column %d: %s", e.Column, e.Msg)
	}
	return fmt.Sprintf("%s:%d: %s", strings.Join(where, ":"), e.Column, e.Msg)
}

// ErrorList is all that is wrong with a PORTS file, in the order of the file. It is never empty where it is an error.
// After 20 errors a last one, at the place of the first that is left out, tells how many there are more.
type ErrorList []*Error

// Error returns one line for each error, without a line end after the last.
func (l ErrorList) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets [errors.As] find the first *[Error].
func (l ErrorList) Unwrap() []error {
	errs := make([]error, len(l))
	for i, e := range l {
		errs[i] = e
	}
	return errs
}
