package rig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"
)

// dirPrefix begins the name of a host's folder; the host's id is the rest.
const dirPrefix = "rig-"

// newDir makes a host's folder with a lock in it, which the kernel drops when the process ends in whatever way. There is
// never a file `lock` that was not locked when it got that name, so one without a lock is a dead host's.
func newDir() (dir string, lock *os.File, err error) {
	// Not t.TempDir's kind of place: a path to a socket has at most 107 bytes.
	if dir, err = os.MkdirTemp("", dirPrefix); err != nil {
		return "", nil, err
	}
	lock, err = os.Create(filepath.Join(dir, "new-lock"))
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = os.Rename(lock.Name(), filepath.Join(dir, "lock"))
	}
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, lock, nil
}

// sweep removes what hosts left behind that were never closed: the process of a test that is interrupted, or that takes too
// long, ends on the spot.
func sweep(ctx context.Context, docker *client.Client) error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOTDIR):
			continue // just being made or removed, or somebody else's
		case err != nil:
			errs = append(errs, err)
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			dead := &Host{Docker: docker, id: strings.TrimPrefix(filepath.Base(dir), dirPrefix)}
			err := errors.Join(dead.removeContainers(ctx), dead.removeImages(ctx))
			if err == nil {
				err = os.RemoveAll(dir) // last: it is how the next one would find the rest
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("what a host that was not closed left behind (%s): %w", dir, err))
			}
		}
		errs = append(errs, lock.Close())
	}
	return errors.Join(errs...)
}
