package settings

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
)

// statement is one "key = value" of a file, which can be several lines long.
type statement struct {
	key   string
	value any
	// first and last are its lines, counted from 0.
	first, last int
}

// split finds the statements of a file without tables. TOML ends a statement with its line, so the fewest lines from a
// statement's start that can be parsed are the whole of it: the library is asked, and no second parser can disagree.
func split(text string) ([]statement, error) {
	lines := strings.SplitAfter(text, "\n")
	var found []statement
	for i := 0; i < len(lines); i++ {
		if line := strings.TrimSpace(strings.TrimPrefix(lines[i], bom)); line == "" || line[0] == '#' {
			continue
		}
		s, ok := statementAt(lines, i)
		if !ok {
			return nil, fmt.Errorf("line %d can't be understood", i+1)
		}
		found = append(found, s)
		i = s.last
	}
	return found, nil
}

func statementAt(lines []string, first int) (statement, bool) {
	for last := first; last < len(lines); last++ {
		if last > first && !closes(lines[last]) {
			continue
		}
		if key, value, ok := decodeOne(strings.Join(lines[first:last+1], "")); ok {
			return statement{key: key, value: value, first: first, last: last}, true
		}
	}
	return statement{}, false
}

// closes tells whether a value of several lines can end in this one. To try no other keeps a long list from taking forever.
func closes(line string) bool {
	return strings.ContainsAny(line, "]}") || strings.Contains(line, `"""`) || strings.Contains(line, "'''")
}

// decodeOne parses a text that holds exactly one statement.
func decodeOne(text string) (key string, value any, ok bool) {
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil || len(tree) != 1 {
		return "", nil, false
	}
	for key, value = range tree {
	}
	return key, value, true
}

// edit sets key to the TOML value, or removes it where the value is "". Nothing else changes: a comment behind the value
// stays there, or alone where the value goes.
func edit(text, key, value string) (string, error) {
	statements, err := split(text)
	if err != nil {
		return "", err
	}
	for _, s := range statements {
		if s.key == key {
			return s.replace(text, value)
		}
	}
	if value == "" {
		return text, nil
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += newline(text)
	}
	return text + key + " = " + value + newline(text), nil
}

// newline is how the file ends its lines.
func newline(text string) string {
	if strings.Contains(text, "\r\n") {
		return "\r\n"
	}
	return "\n"
}

func (s statement) replace(text, value string) (string, error) {
	lines := strings.SplitAfter(text, "\n")
	own := lines[s.first : s.last+1]
	behind, err := s.comment(own)
	if err != nil {
		return "", err
	}
	// A byte order mark is not the statement's, though it stands in its line.
	start := len(own[0]) - len(strings.TrimLeft(strings.TrimPrefix(own[0], bom), " \t"))
	replaced := own[0][:start]
	if value != "" {
		replaced += s.key + " = " + value
		if behind != "" {
			replaced += " "
		}
	}
	replaced += behind
	if strings.Trim(replaced, " \t"+bom) == "" {
		replaced = replaced[:len(replaced)-len(strings.TrimPrefix(replaced, bom))]
	} else if strings.HasSuffix(own[len(own)-1], "\n") {
		replaced += newline(text)
	}
	return strings.Join(lines[:s.first], "") + replaced + strings.Join(lines[s.last+1:], ""), nil
}

const bom = "\ufeff"

// comment returns the comment behind the statement's end, from its "#" on. Every "#" is tried from the left: the first one
// before which the statement is complete, with the same value, starts the comment.
func (s statement) comment(own []string) (string, error) {
	before := strings.Join(own[:len(own)-1], "")
	last := strings.TrimRight(own[len(own)-1], "\r\n")
	for i := range len(last) {
		if last[i] != '#' {
			continue
		}
		if _, value, ok := decodeOne(before + last[:i]); ok && reflect.DeepEqual(value, s.value) {
			return last[i:], nil
		}
	}
	if _, value, ok := decodeOne(before + last); ok && reflect.DeepEqual(value, s.value) {
		return "", nil
	}
	return "", fmt.Errorf("the lines of %s can't be understood", s.key)
}
