package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
)

// readFile returns "" for a file that is not there.
func readFile(path string) (string, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", path)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxFile {
		return "", fmt.Errorf("%s is larger than %d KiB: is it really a settings file?", path, maxFile>>10)
	}
	return string(text), nil
}

// write replaces the file, or leaves the old one as it is and returns an error. Readers see the old text or the new one,
// after a crash too. The file keeps its mode and its owner; a new one is its folder's owner's. A link stays one.
func write(path, text string) (err error) {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return err
	}
	file, err := renameio.NewPendingFile(path,
		renameio.WithTempDir(dir), renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer func() {
		if cleanup := file.Cleanup(); err == nil {
			err = cleanup
		}
	}()
	owned := path
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		owned = dir
	}
	if err := copyOwner(owned, file.Name()); err != nil {
		return err
	}
	if _, err := file.WriteString(text); err != nil {
		return fmt.Errorf("%s is left as it was: %w", path, err)
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("%s is left as it was: %w", path, err)
	}
	return syncDir(dir)
}

// makeDir makes the folder and those above it that are missing, each its parent's owner's.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o755)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if err := makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		return makeDir(dir)
	case err != nil:
		return err
	}
	return copyOwner(filepath.Dir(dir), dir)
}

// copyOwner matters to root alone, who must not leave files that user dokku can't write: nobody else can give files away.
func copyOwner(from, to string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner can't be told", from)
	}
	return os.Chown(to, int(stat.Uid), int(stat.Gid))
}

func remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a change of the folder's names last through a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
