package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dokku-expose/hooks/dokku"
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

// Backup returns what puts the file of scope back as it is now.
func (s Store) Backup(scope string) (restore func() error, err error) {
	path, err := s.path(scope)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return func() error { return remove(path) }, nil
	}
	text, err := readFile(path)
	return func() error { return write(path, text) }, err
}

// Reference lists all keys with what they are for, one a line.
func Reference() string {
	var b strings.Builder
	for _, k := range keys {
		scope := ""
		switch k.Scope {
		case AppOnly:
			scope = " (app only)"
		case GlobalOnly:
			scope = " (--global only)"
		}
		fallback := ""
		if k.Default != "" {
			fallback = fmt.Sprintf("; default %s", k.Default)
		}
		fmt.Fprintf(&b, "  %-17s %s%s%s\n", k.Name, k.Doc, fallback, scope)
	}
	return strings.TrimRight(b.String(), "\n")
}
