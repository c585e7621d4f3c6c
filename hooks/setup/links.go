package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
)

// createLinks lets Dokku find the binary under the names that it calls, and removes links of an older version. Links are all
// that Dokku needs: a dangling one is skipped, so that a missing binary never stops anybody's deploy.
func (s *setup) createLinks() error {
	dokku, _, err := s.owners()
	if err != nil {
		return err
	}
	wanted := []string{"commands"}
	wanted = append(wanted, s.Triggers...)
	for _, name := range s.Subcommands {
		wanted = append(wanted, path.Join("subcommands", name))
	}
	changed, err := link(s.Tree, Binary, wanted, dokku)
	if err != nil {
		return fmt.Errorf("links in %s: %w", s.Tree, err)
	}
	if changed {
		s.say("Linked the plugin's triggers and commands to %s", Binary)
	}
	return nil
}

func (s *setup) removeLinks() error {
	changed, err := link(s.Tree, Binary, nil, owner{})
	if err != nil {
		return fmt.Errorf("links in %s: %w", s.Tree, err)
	}
	if changed {
		s.say("Removed the links of triggers and commands")
	}
	return nil
}

// link makes the wanted names below tree symbolic links to target, owned by o, and removes all other links to target. What is
// no symbolic link is never touched. The tree is Dokku's user's: os.Root keeps root from following that user's links out of it.
func link(tree, target string, wanted []string, o owner) (changed bool, err error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()

	for _, dir := range []string{".", "subcommands"} {
		stale, err := staleLinks(root, dir, target, wanted)
		if err != nil {
			return false, err
		}
		for _, name := range stale {
			if err := root.Remove(name); err != nil {
				return false, err
			}
			changed = true
		}
	}
	if len(wanted) == 0 {
		return changed, removeIfEmpty(root, "subcommands")
	}

	switch err := root.Mkdir("subcommands", 0o755); {
	case err == nil:
		if err := root.Lchown("subcommands", o.uid, o.gid); err != nil {
			return false, err
		}
	case !errors.Is(err, fs.ErrExist):
		return false, err
	}
	for _, name := range wanted {
		made, err := linkOne(root, name, target, o)
		if err != nil {
			return false, err
		}
		changed = changed || made
	}
	return changed, nil
}

func linkOne(root *os.Root, name, target string, o owner) (made bool, err error) {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, err
	case info.Mode().Type() != fs.ModeSymlink:
		return false, fmt.Errorf("%s must become a link to %s but is a file of its own: move it away", name, target)
	default:
		if now, err := root.Readlink(name); err != nil || now == target {
			return false, err
		}
	}
	// Renamed into place, for a deploy may look right now.
	dir, base := path.Split(name)
	temp := dir + "." + base + ".new"
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := root.Symlink(target, temp); err != nil {
		return false, err
	}
	if err := root.Lchown(temp, o.uid, o.gid); err != nil {
		return false, err
	}
	return true, root.Rename(temp, name)
}

// staleLinks lists the links to target in dir that are not wanted.
func staleLinks(root *os.Root, dir, target string, wanted []string) ([]string, error) {
	entries, err := fs.ReadDir(root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var stale []string
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.Type() != fs.ModeSymlink || slices.Contains(wanted, name) {
			continue
		}
		to, err := root.Readlink(name)
		if err != nil {
			return nil, err
		}
		if to == target {
			stale = append(stale, name)
		}
	}
	return stale, nil
}

func removeIfEmpty(root *os.Root, dir string) error {
	entries, err := fs.ReadDir(root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) || len(entries) > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return root.Remove(dir)
}
