package settings

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"dokku-expose/deploy"
	"dokku-expose/portsfile"
)

// Error is something wrong in a settings file.
type Error struct {
	File string
	// Line counts from 1; 0 is the file as a whole.
	Line int
	// Key is the key that has a wrong value; "" when the file can't be taken apart into keys.
	Key string
	Err error
}

// Error returns "FILE:LINE: message".
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// App is what a settings file says. The host's has settings only.
type App struct {
	// Settings holds the text of what is set, by key.
	Settings map[string]string
	// Mappings are the operator's, no two of which overlap.
	Mappings []deploy.Mapping
	// Disabled stops all ports of the app.
	Disabled bool
}

// decode reads the text of the settings file at path. It returns all errors of the file, in the order of its lines, with what
// the other lines say.
func decode(path, text, scope string) (App, error) {
	app, first := decodeAll(path, text, scope)
	lines := strings.SplitAfter(text, "\n")
	// Where the text can't be taken apart, the line that is to blame is left out, and then the next one, until it can be.
	for err, tries := first, 0; ; tries++ {
		n := malformed(err)
		if n == 0 {
			return app, first
		}
		if n > len(lines) || tries == maxMalformed {
			return App{}, first
		}
		lines[n-1] = "\n"
		app, err = decodeAll(path, strings.Join(lines, ""), scope)
	}
}

// maxMalformed is how many lines of a file may be no TOML before nothing of it counts.
const maxMalformed = 100

// malformed is the line that keeps a text from being taken apart into keys, 0 where none does.
func malformed(err error) int {
	if wrong, ok := err.(*Error); ok && wrong.Key == "" { //nolint:errorlint // errors about keys are joined
		return wrong.Line
	}
	return 0
}

// decodeAll is decode for a text that is TOML; of another one it tells the line.
func decodeAll(path, text, scope string) (App, error) {
	app := App{Settings: make(map[string]string)}
	// The library passes over the mark of UTF-16, and then over what follows it.
	for i, line := range strings.Split(text, "\n") {
		if !utf8.ValidString(line) {
			return App{}, &Error{File: path, Line: i + 1, Err: errors.New("this is not UTF-8 text: save the file as UTF-8")}
		}
	}
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			return App{}, &Error{File: path, Line: syntax.Position.Line, Err: errors.New(syntax.Message)}
		}
		return App{}, &Error{File: path, Err: err}
	}
	wrong := make(map[string]error)
	for name, value := range tree {
		if err := app.put(name, value, scope); err != nil {
			wrong[name] = err
		}
	}
	if len(wrong) > 0 {
		return app, locate(path, text, wrong)
	}
	return app, nil
}

// locate makes one error of all, each with the line of its key.
func locate(path, text string, wrong map[string]error) error {
	lines := make(map[string]int)
	if statements, err := split(text); err == nil {
		for _, s := range statements {
			if _, found := lines[s.key]; !found {
				lines[s.key] = s.first + 1
			}
		}
	}
	var found []*Error
	for name, err := range wrong {
		found = append(found, &Error{File: path, Line: lines[name], Key: name, Err: err})
	}
	slices.SortFunc(found, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Err.Error(), b.Err.Error()))
	})
	errs := make([]error, len(found))
	for i, err := range found {
		errs[i] = err
	}
	return errors.Join(errs...)
}

// put checks one statement of the file and takes its value over.
func (a *App) put(name string, value any, scope string) error {
	var others []string
	if scope != Global {
		others = []string{mappingsKey, disabledKey}
		switch name {
		case mappingsKey:
			mappings, err := decodeMappings(value)
			a.Mappings = mappings
			return err
		case disabledKey:
			disabled, ok := value.(bool)
			if !ok {
				return fmt.Errorf("%s must be true or false", name)
			}
			a.Disabled = disabled
			return nil
		}
	}
	key, ok := findKey(name)
	if !ok {
		return unknown(name, scope, others...)
	}
	if !key.in(scope) {
		return key.misplaced()
	}
	var text string
	switch value := value.(type) {
	case string:
		text = value
	case int64:
		text = strconv.FormatInt(value, 10)
	default:
		return fmt.Errorf("%s must be text in quotes or a whole number", name)
	}
	if err := key.put(new(Values), text); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a.Settings[name] = text
	return nil
}

func decodeMappings(value any) ([]deploy.Mapping, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf(`%s must be a list of texts, such as ["25:5025", "993:5993 process=imap"]`, mappingsKey)
	}
	var mappings []deploy.Mapping
	for i, item := range list {
		text, ok := item.(string)
		if !ok {
			return nil, fmt.Errorf(`%s: entry %d must be a text in quotes, such as "25:5025"`, mappingsKey, i+1)
		}
		mapping, err := deploy.ParseMapping(text)
		if err != nil {
			return nil, fmt.Errorf("%s: entry %d, %q: %w", mappingsKey, i+1, text, err)
		}
		mappings = append(mappings, mapping)
	}
	return mappings, checkMappings(mappings)
}

// checkMappings refuses mappings that overlap, and more of them than a PORTS file may have.
func checkMappings(mappings []deploy.Mapping) error {
	_, err := deploy.ParsePorts("", string(portsfile.Format(mappings)))
	var list portsfile.ErrorList
	if !errors.As(err, &list) {
		return err
	}
	errs := make([]error, len(list))
	for i, e := range list {
		errs[i] = fmt.Errorf("%s: entry %d: %s", mappingsKey, e.Line, strings.ReplaceAll(e.Msg, " line ", " entry "))
	}
	return errors.Join(errs...)
}
