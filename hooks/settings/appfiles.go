package settings

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dokku-expose/hooks/dokku"
	"dokku-expose/portsfile"
)

// Apps returns the names of all apps that have settings of their own.
func (s Store) Apps() ([]string, error) {
	return dokku.FilesOfApps(filepath.Join(s.Dir, "apps"), ".toml")
}

// Known tells, at the cost of one system call, whether an app has settings of its own.
func (s Store) Known(app string) bool {
	path, err := s.path(app)
	if err != nil {
		return false
	}
	_, err = os.Stat(path)
	return err == nil
}

// MayMap returns the ports that the file of an app may map, where it is so broken that nobody can tell. known is false where
// not even that can be told: the file can't be read at all. A file that is wrong elsewhere tells its mappings all the same.
func (s Store) MayMap(app string) (ports []portsfile.Range, known bool) {
	_, text, err := s.load(app)
	if tellsMappings(err) {
		return nil, true
	}
	if text == "" {
		return nil, false
	}
	// The lines of other keys have numbers, too, and comments.
	var lines []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		name, _, assigns := strings.Cut(line, "=")
		if _, other := findKey(strings.Trim(name, " \t")); !assigns || !other {
			lines = append(lines, line)
		}
	}
	return portsfile.Mentioned(strings.Join(lines, "\n")), true
}

// tellsMappings tells whether a file of which that is wrong tells its mappings.
func tellsMappings(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(joined.Unwrap(), func(err error) bool { return !tellsMappings(err) })
	}
	wrong, ok := err.(*Error) //nolint:errorlint // what is wrapped in it is about the same key
	return err == nil || ok && wrong.Key != "" && wrong.Key != mappingsKey
}

// Text is the file of scope as it is, "" when there is none.
func (s Store) Text(scope string) (string, error) {
	path, err := s.path(scope)
	if err != nil {
		return "", err
	}
	return readFile(path)
}

// Replace writes the whole file of scope, and removes it for "". A file that has that text already is left alone.
func (s Store) Replace(scope, text string) error {
	path, err := s.path(scope)
	if err != nil {
		return err
	}
	switch old, err := readFile(path); {
	case err == nil && old == text && text != "":
		return nil
	case text == "":
		return remove(path)
	}
	return write(path, text)
}

// Backup returns what puts the file of scope back as it is now.
func (s Store) Backup(scope string) (restore func() error, err error) {
	text, err := s.Text(scope)
	return func() error { return s.Replace(scope, text) }, err
}
