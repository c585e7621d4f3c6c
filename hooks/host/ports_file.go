package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"dokku-expose/portsfile"
)

// ErrFolder is the error of a folder that has the name of the PORTS file. The folder is the app's own: to the plugin the file is
// missing.
var ErrFolder = fmt.Errorf("it is a folder, and %w as a file", fs.ErrNotExist)

// ReadSource reads the PORTS file called name (a clean path with slashes) of a source tree. A missing file is an error that wraps
// fs.ErrNotExist. Only a regular file is read, reached through regular folders: the tree comes from a push, and a link in it could
// name any file that user dokku may read.
func ReadSource(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()

	for at := path.Dir(name); at != "."; at = path.Dir(at) {
		info, err := root.Lstat(at)
		switch {
		case errors.Is(err, syscall.ENOTDIR):
			return nil, fs.ErrNotExist
		case err != nil:
			return nil, err
		case !info.IsDir():
			return nil, notRegular(at, info.Mode())
		}
	}
	info, err := root.Lstat(name)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s: %w", name, ErrFolder)
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(name, info.Mode())
	}
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// One byte more than allowed, so that the parser can tell a file that is too long.
	return io.ReadAll(io.LimitReader(file, portsfile.MaxSize+1))
}

func notRegular(name string, mode fs.FileMode) error {
	kind := "a special file"
	switch {
	case mode&fs.ModeSymlink != 0:
		kind = "a symbolic link"
	case mode.IsRegular():
		kind = "a file, where a folder is expected"
	}
	return fmt.Errorf("%s is %s; it must be a regular file of the repository", name, kind)
}
