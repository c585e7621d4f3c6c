package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// lockRetry is how often a waiting process looks whether the lock has become free.
const lockRetry = 20 * time.Millisecond

// Lock is the host-wide right to change what the host's routes are made of, and to apply them. It is an flock(2): the
// kernel lets go of it when its holder dies, however it dies.
type Lock struct {
	file *flock.Flock
}

// Acquire waits for the lock at path until ctx ends. The file is made when missing; its content means nothing.
func Acquire(ctx context.Context, path string) (*Lock, error) {
	file := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	ok, err := file.TryLockContext(ctx, lockRetry)
	if errors.Is(err, unix.EROFS) {
		// What can be done without writing is done: servers that are gone leave service.
		file = flock.New(path, flock.SetFlag(os.O_RDONLY))
		ok, err = file.TryLockContext(ctx, lockRetry)
	}
	if err != nil || !ok {
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, fmt.Errorf("interrupted while another dokku-expose process held the lock %s: %w", path, ctx.Err())
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("another dokku-expose process holds the lock %s for too long (`fuser -v %s` names it): %w", path, path, ctx.Err())
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{file: file}, nil
}

// Release lets the next one in.
func (l *Lock) Release() error {
	return l.file.Close()
}

// held tells whether the lock was acquired and not released since.
func (l *Lock) held() bool { return l != nil && l.file.Locked() }
