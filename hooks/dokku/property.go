package dokku

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/joho/godotenv"
)

// Global stands for all apps where Dokku takes the name of one.
const Global = "--global"

// maxFile bounds what is read of any file of Dokku's. The largest are the environments of apps with certificates in them.
const maxFile = 1 << 20

// property reads a setting of one of Dokku's plugins: "" when it is not set. The value has no line end at its end, as the
// shell half of Dokku sees it. The format is that of plugins/common/properties.go.
func (e Env) property(plugin, app, key string) (string, error) {
	if app != Global {
		if err := ValidName(app); err != nil {
			return "", err
		}
	}
	text, err := readFile(filepath.Join(e.LibRoot, "config", plugin, app, key))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("can't read Dokku's setting %s of %s: %w", key, app, err)
	}
	return strings.TrimRight(string(text), "\n"), nil
}

// computed is a property of the app or, where that is not set, of the host.
func (e Env) computed(plugin, app, key string) (string, error) {
	value, err := e.property(plugin, app, key)
	if value != "" || err != nil {
		return value, err
	}
	return e.property(plugin, Global, key)
}

// formerVar is a property that was a variable in the app's environment before Dokku 0.38.
func (e Env) formerVar(plugin, app, key, variable string) (string, error) {
	value, err := e.property(plugin, app, key)
	if value != "" || err != nil {
		return value, err
	}
	// 0.38 leaves this mark when it has moved the variables; it ignores them from then on, and so must we.
	migrated, err := e.property("config", Global, "env-migrated")
	if migrated == "true" || err != nil {
		return "", err
	}
	path := filepath.Join(e.Root, "ENV")
	if app != Global {
		path = filepath.Join(e.appDir(app), "ENV")
	}
	text, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("can't read the environment of %s: %w", app, err)
	}
	env, err := godotenv.UnmarshalBytes(text)
	if err != nil {
		// The library quotes what it can't read, and that may be a secret.
		return "", fmt.Errorf("%s can't be parsed; set a variable of it again: dokku config:set", path)
	}
	return env[variable], nil
}

// readFile reads a regular file, or a link to one, of at most maxFile bytes. It never waits, whatever the path leads to.
func readFile(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readRegular(file)
}

func readRegular(file *os.File) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", file.Name())
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", file.Name(), maxFile)
	}
	return text, nil
}

// firstLine is the first line that is not blank, as Dokku reads its one-line files.
func firstLine(text []byte) string {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return string(line)
		}
	}
	return ""
}
