package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"dokku-expose/hooks/dokku"
)

// folder is one that Dokku's user writes into.
type folder struct {
	// parent is Dokku's folder and must exist. It may be a symbolic link: Dokku's container image makes it one.
	parent string
	// name is the path below parent.
	name  string
	mode  fs.FileMode
	owner owner
}

func (s *setup) folders(own, shared owner) []folder {
	return []folder{
		{filepath.Join(s.LibRoot, "config"), dokku.Plugin, 0o755, own},
		{filepath.Join(s.LibRoot, "data"), dokku.Plugin, 0o755, own},
		// HAProxy's configuration holds a password. The set-group-id bit hands the group, and with it HAProxy's right to read,
		// to every file that Dokku's user writes here.
		{filepath.Join(s.LibRoot, "data"), dokku.Plugin + "/haproxy", 0o750 | fs.ModeSetgid, shared},
	}
}

func (s *setup) createFolders() error {
	own, shared, err := s.owners()
	if err != nil {
		return err
	}
	for _, f := range s.folders(own, shared) {
		changed, err := f.create()
		if err != nil {
			return fmt.Errorf("folder %s: %w", filepath.Join(f.parent, f.name), err)
		}
		if changed {
			s.say("Set up the folder %s", filepath.Join(f.parent, f.name))
		}
	}
	return nil
}

// create makes the folder when it is missing and corrects its mode, its owner and the owners of the files right in it: Dokku's
// container image gives everything to user and group dokku at each start, and ids differ when the container is a new one.
//
// The parents are Dokku's user's, who could put a symbolic link where root is about to change an owner; os.Root keeps us
// below the parent.
func (f folder) create() (changed bool, err error) {
	root, err := os.OpenRoot(f.parent)
	if err != nil {
		return false, fmt.Errorf("%w: is Dokku installed, and is DOKKU_LIB_ROOT right?", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()

	switch err := root.Mkdir(f.name, f.mode.Perm()); {
	case err == nil:
		changed = true
	case !errors.Is(err, fs.ErrExist):
		return false, err
	}
	entries, err := fs.ReadDir(root.FS(), f.name)
	if err != nil {
		return false, err
	}
	moved, err := f.chown(root, f.name)
	if err != nil {
		return false, err
	}
	changed = changed || moved
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		moved, err := f.chown(root, path.Join(f.name, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		changed = changed || moved
	}

	// After the owner, for a change of owner can take bits away.
	info, err := root.Lstat(f.name)
	if err != nil {
		return false, err
	}
	if !info.IsDir() {
		return false, fmt.Errorf("is no folder but %s: move it away", info.Mode())
	}
	if info.Mode()&(fs.ModePerm|fs.ModeSetgid) != f.mode {
		return true, root.Chmod(f.name, f.mode)
	}
	return changed, nil
}

func (f folder) chown(root *os.Root, name string) (changed bool, err error) {
	info, err := root.Lstat(name)
	if err != nil {
		return false, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false, fmt.Errorf("%s: the owner can't be read", name)
	}
	if int(st.Uid) == f.owner.uid && int(st.Gid) == f.owner.gid {
		return false, nil
	}
	return true, root.Lchown(name, f.owner.uid, f.owner.gid)
}

func (s *setup) removeFolders() error {
	var errs []error
	for _, parent := range []string{"config", "data"} {
		dir := filepath.Join(s.LibRoot, parent)
		removed, err := removeBelow(dir, dokku.Plugin)
		if err != nil {
			errs = append(errs, err)
		} else if removed {
			s.say("Removed %s", filepath.Join(dir, dokku.Plugin))
		}
	}
	return errors.Join(errs...)
}

func removeBelow(dir, name string) (removed bool, err error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if _, err := root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return true, root.RemoveAll(name)
}
