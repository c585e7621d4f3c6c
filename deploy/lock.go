package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/prometheus/procfs"
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
			return nil, fmt.Errorf("%s: %w", holderOf(path), ctx.Err())
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{file: file}, nil
}

// holderOf says which process has held the lock for too long, and what to do about it.
func holderOf(path string) string {
	p, err := holder(path)
	if err != nil {
		return fmt.Sprintf("another dokku-expose process holds the lock %s for too long; end it if it hangs (fuser -v %s names it)", path, path)
	}
	who := fmt.Sprintf("pid %d", p.PID)
	if command, err := p.CmdLine(); err == nil && len(command) > 0 {
		who = fmt.Sprintf("%s (%s)", strings.Join(command, " "), who)
	}
	if stat, err := p.Stat(); err == nil && strings.EqualFold(stat.State, "t") {
		return fmt.Sprintf("%s is stopped, and holds the lock %s; let it go on: kill -CONT %d, or end it: kill -KILL %d", who, path, p.PID, p.PID)
	}
	return fmt.Sprintf("%s holds the lock %s for too long; end it if it hangs: kill %d", who, path, p.PID)
}

// holder is the process that has the lock, as the kernel lists it. A process of another PID namespace has no number here.
func holder(path string) (procfs.Proc, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return procfs.Proc{}, err
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return procfs.Proc{}, err
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	for line := range strings.Lines(string(locks)) {
		// 3: FLOCK  ADVISORY  WRITE 9671 fe:00:9978993 0 EOF
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != file {
			continue
		}
		pid, err := strconv.Atoi(f[4])
		if err != nil {
			return procfs.Proc{}, err
		}
		return procfs.NewProc(pid)
	}
	return procfs.Proc{}, errors.New("the kernel does not list it")
}

// Release lets the next one in.
func (l *Lock) Release() error {
	return l.file.Close()
}

// held tells whether the lock was acquired and not released since.
func (l *Lock) held() bool { return l != nil && l.file.Locked() }
