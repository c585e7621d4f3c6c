package portsfile

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Options are the values of all options of a mapping. The zero value is that of a mapping that gives none.
type Options[O any] interface {
	comparable
	// String returns the options that are given as the canonical line has them, "" for none.
	String() string
	// Complete says which option of a mapping lacks another one beside it, or is none of its protocol's; hosts tells that it has host.
	Complete(proto Proto, hosts bool) error
	// Beside says why no mapping with the other options can have the same port, whatever its host; nil when it can.
	Beside(O) error
}

// Option is a KEY=VALUE that may follow a mapping.
type Option[O Options[O]] struct {
	Key string
	// Value is the placeholder of the value in messages, Doc says what the option means.
	Value, Doc string
	// Parse sets the option to a value that is not empty. Its error says what was expected; an [ItemError] is about a part of the
	// value.
	Parse func(o *O, value string) error
}

// ItemError is an error in one item of a value that is a list.
type ItemError struct {
	// Offset is where the item starts in the value, in bytes.
	Offset int
	Err    error
}

func (e *ItemError) Error() string { return e.Err.Error() }
func (e *ItemError) Unwrap() error { return e.Err }

// Items reads each item of a list whose items stand between commas, with blanks around them or not. An error of read is returned as an
// [ItemError].
func Items(text string, read func(item string) error) error {
	offset := 0
	for item := range strings.SplitSeq(text, ",") {
		if err := read(strings.Trim(item, " ")); err != nil {
			return &ItemError{Offset: offset, Err: err}
		}
		offset += len(item) + len(",")
	}
	return nil
}

// Language is the PORTS language with the options of a program, beside process and host.
type Language[O Options[O]] []Option[O]

// Options returns all options in the order of their documentation. The rows of process and host have no Parse: their values are fields of [Mapping].
func (l Language[O]) Options() []Option[O] {
	process := Option[O]{Key: processKey, Value: "TYPE", Doc: "the process type of the Procfile that serves the port"}
	host := Option[O]{Key: hostKey, Value: "NAME,...", Doc: "the host names that clients ask for with TLS; `*.example.com` stands for any one label. Several mappings share a port by their names"}
	return append([]Option[O]{process, host}, l...)
}

// Reference lists all options with what they are for, one a line.
func (l Language[O]) Reference() string {
	var b strings.Builder
	for _, o := range l.Options() {
		fmt.Fprintf(&b, "  %s=%s\n      %s\n", o.Key, o.Value, strings.ReplaceAll(o.Doc, "`", ""))
	}
	return strings.TrimRight(b.String(), "\n")
}

const (
	processKey = "process"
	hostKey    = "host"
)

// processType is what Dokku accepts for a process type in a Procfile (procfile-util 0.17, without its strict mode).
var processType = regexp.MustCompile(`^[A-Za-z0-9_-]{1,63}$`)

// parse sets the option of the mapping to a value that is not empty.
func (o Option[O]) parse(m *Mapping[O], value string) error {
	switch o.Key {
	case hostKey:
		hosts, err := ParseServerNames(value)
		m.Hosts = hosts
		return err
	case processKey:
	default:
		return o.Parse(&m.Options, value)
	}
	if !processType.MatchString(value) {
		return errors.New(`expected a process type of the Procfile: up to 63 letters, digits, "-" and "_"`)
	}
	m.Process = value
	return nil
}

func find[O Options[O]](options []Option[O], key string) (o Option[O], known bool) {
	i := slices.IndexFunc(options, func(o Option[O]) bool { return o.Key == key })
	if i < 0 {
		return o, false
	}
	return options[i], true
}

// names are all options on one line.
func names[O Options[O]](options []Option[O]) string {
	known := make([]string, len(options))
	for i, o := range options {
		known[i] = o.Key + "=" + o.Value
	}
	return strings.Join(known, ", ")
}
