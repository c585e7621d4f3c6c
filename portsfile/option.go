package portsfile

import (
	"errors"
	"regexp"
	"strings"
)

// An option is a KEY=VALUE that may follow a mapping. A new one is a field of [Mapping] and a row of options.
type option struct {
	key string
	// value is the placeholder of the value in messages, doc what the option means and its default.
	value, doc string
	// parse sets the mapping's field from a value that is not empty. Its error says what was expected.
	parse func(m *Mapping, value string) error
	// format returns the value in canonical form, "" when it is the default.
	format func(m Mapping) string
}

// options are in the order of the canonical form.
var options = []option{
	{
		key: "process", value: "TYPE",
		doc: "the process type whose containers serve the port, " + DefaultProcess + " unless given",
		parse: func(m *Mapping, value string) error {
			if !processType.MatchString(value) {
				return errors.New(`expected a process type of the Procfile: up to 63 letters, digits, "-" and "_"`)
			}
			m.Process = value
			return nil
		},
		format: func(m Mapping) string {
			if m.Process == DefaultProcess {
				return ""
			}
			return m.Process
		},
	},
}

// processType is what Dokku accepts for a process type in a Procfile (procfile-util 0.17, without its strict mode).
var processType = regexp.MustCompile(`^[A-Za-z0-9_-]{1,63}$`)

func findOption(key string) (option, bool) {
	for _, o := range options {
		if o.key == key {
			return o, true
		}
	}
	return option{}, false
}

// knownOptions describes all options on one line.
func knownOptions() string {
	known := make([]string, len(options))
	for i, o := range options {
		known[i] = o.key + "=" + o.value + " (" + o.doc + ")"
	}
	return strings.Join(known, ", ")
}
