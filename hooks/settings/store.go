package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/portsfile"
)

// maxFile bounds what is read of a file; 1,024 mappings with their comments are far below it.
const maxFile = 512 << 10

// Store is the folder of the settings: global.toml, and apps/APP.toml for each app that has any.
type Store struct {
	Dir string
	// Salvage has readers go by what can be read of broken files, as if the rest were not set, without an error. It is for whoever
	// closes or shows something; writers are as strict as ever.
	Salvage bool
}

// path is the file of an app, or of the host. No app's name leads to another folder.
func (s Store) path(scope string) (string, error) {
	if scope == Global {
		return filepath.Join(s.Dir, "global.toml"), nil
	}
	if err := dokku.ValidName(scope); err != nil {
		return "", err
	}
	return filepath.Join(s.Dir, "apps", scope+".toml"), nil
}

// Load reads what is set for an app; nothing is no error. What is wrong with the file is one [Error] for each mistake,
// joined, beside what could be read of it.
func (s Store) Load(app string) (App, error) {
	loaded, _, err := s.load(app)
	if s.Salvage {
		err = nil
	}
	return loaded, err
}

// LoadGlobal reads what is set for the host, by key.
func (s Store) LoadGlobal() (map[string]string, error) {
	loaded, err := s.Load(Global)
	return loaded.Settings, err
}

func (s Store) load(scope string) (App, string, error) {
	path, err := s.path(scope)
	if err != nil {
		return App{}, "", err
	}
	text, err := readFile(path)
	if err != nil {
		return App{}, "", err
	}
	if text == "" { // Most apps have no file. TOML takes its time for that, too.
		return App{Settings: make(map[string]string)}, "", nil
	}
	app, err := decode(path, text, scope)
	return app, text, err
}

// Set sets a key of an app or of the host ([Global]) to the value as [Key] documents it. The empty value restores the
// default. The error says what is wrong with the key or the value, or with the file as it is: a broken one is not edited.
func (s Store) Set(scope, name, value string) error {
	key, ok := findKey(name)
	if !ok {
		return unknown(name, scope)
	}
	if !key.in(scope) {
		return key.misplaced()
	}
	if value == "" {
		return s.change(scope, false, func(app *App) { delete(app.Settings, name) }, setTo(name, ""))
	}
	if err := key.put(new(Values), value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return s.change(scope, false, func(app *App) { app.Settings[name] = value }, setTo(name, quote(value)))
}

// SetMappings replaces the operator's mappings of an app. Mappings that overlap are an error.
func (s Store) SetMappings(app string, mappings []deploy.Mapping) error {
	return s.setMappings(app, mappings, false)
}

// RemoveMappings is SetMappings for an operator who takes mappings back. Another key that is wrong does not keep him from it.
func (s Store) RemoveMappings(app string, rest []deploy.Mapping) error {
	return s.setMappings(app, rest, true)
}

func (s Store) setMappings(app string, mappings []deploy.Mapping, closes bool) error {
	if err := checkMappings(mappings); err != nil {
		return err
	}
	return s.change(app, closes, func(app *App) { app.Mappings = mappings }, func(text string) (string, error) {
		return editMappings(text, mappings)
	})
}

// SetDisabled stops all ports of an app, or has them served again. To stop them is written into a broken file too.
func (s Store) SetDisabled(app string, disabled bool) error {
	if !disabled {
		return s.change(app, false, func(app *App) { app.Disabled = false }, setTo(disabledKey, ""))
	}
	if _, _, err := s.load(app); malformed(err) > 0 {
		return s.forceDisabled(app)
	}
	return s.change(app, true, func(app *App) { app.Disabled = true }, setTo(disabledKey, "true"))
}

var disabledLine = regexp.MustCompile(`(?m)^[ \t]*` + disabledKey + `[ \t]*=.*\r?\n?`)

// forceDisabled writes that an app is disabled into the first line of a file that is no TOML, where nothing before it can be wrong.
func (s Store) forceDisabled(app string) error {
	path, err := s.path(app)
	if err != nil {
		return err
	}
	text, err := readFile(path)
	if err != nil {
		return err
	}
	rest := strings.TrimPrefix(text, bom)
	text = text[:len(text)-len(rest)] + disabledKey + " = true" + newline(text) + disabledLine.ReplaceAllString(rest, "")
	if found, err := decode(path, text, app); !found.Disabled {
		return err
	}
	return write(path, text)
}

func setTo(key, value string) func(string) (string, error) {
	return func(text string) (string, error) { return edit(text, key, value) }
}

// change edits the file of scope; see revise. What only closes something may edit a file in which other keys are wrong.
func (s Store) change(scope string, closes bool, mean func(*App), edit func(string) (string, error)) error {
	app, text, err := s.load(scope)
	if err != nil && !(closes && tellsMappings(err)) {
		return err
	}
	path, err := s.path(scope)
	if err != nil {
		return err
	}
	mean(&app)
	edited, err := revise(path, scope, text, app, closes, edit)
	if err != nil || edited == text {
		return err
	}
	return save(path, edited)
}

// revise edits the text of a file, and returns what comes out if that says what is meant.
func revise(path, scope, text string, meant App, closes bool, edit func(string) (string, error)) (string, error) {
	edited, err := edit(text)
	if err != nil {
		return "", fmt.Errorf("%s can't be edited by a command, please do it by hand: %w", path, err)
	}
	app, err := decode(path, edited, scope)
	if err != nil && !(closes && tellsMappings(err)) || !same(app, meant) {
		return "", fmt.Errorf("%s can't be edited by a command, please do it by hand: its text came out otherwise than meant", path)
	}
	return edited, nil
}

// save writes the file, or removes it when nothing is left in it.
func save(path, text string) error {
	if strings.TrimSpace(strings.TrimPrefix(text, bom)) == "" {
		return remove(path)
	}
	return write(path, text)
}

func same(a, b App) bool {
	return reflect.DeepEqual(a.Settings, b.Settings) && a.Disabled == b.Disabled &&
		string(portsfile.Format(a.Mappings)) == string(portsfile.Format(b.Mappings))
}

// quote makes a TOML string of a value that a key has accepted: printable text, which Go and TOML quote alike.
func quote(value string) string { return strconv.Quote(value) }

// Remove forgets all settings of an app.
func (s Store) Remove(app string) error {
	path, err := s.path(app)
	if err != nil {
		return err
	}
	return remove(path)
}

// Rename hands the settings of an app over to its new name, broken ones too.
func (s Store) Rename(from, to string) error {
	old, err := s.path(from)
	if err != nil {
		return err
	}
	path, err := s.path(to)
	if err != nil {
		return err
	}
	err = os.Rename(old, path)
	if errors.Is(err, fs.ErrNotExist) {
		return remove(path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Clone gives one app the settings of another, but not its mappings: a public port can't be both's.
func (s Store) Clone(from, to string) error {
	app, text, err := s.load(from)
	if err != nil {
		return err
	}
	path, err := s.path(to)
	if err != nil {
		return err
	}
	app.Mappings = nil
	text, err = revise(path, to, text, app, false, func(text string) (string, error) { return editMappings(text, nil) })
	if err != nil {
		return err
	}
	return save(path, text)
}
