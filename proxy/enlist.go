package proxy

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// listOf is the path of the file on which all daemons of a control socket have a lock for as long as they live: also those that
// nobody reaches there any more, since they were taken over from or end.
func listOf(control string) string { return control + ".daemons" }

// enlist puts this process on the list, until the file is closed. It is the kernel's list: whoever ends, in whatever way, is off it.
func enlist(control string) (*os.File, error) {
	file, err := os.OpenFile(listOf(control), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(file.Fd(), unix.F_SETLK, &lock); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return file, nil
}

// Living returns the process id of a daemon of that control socket which still lives, whatever it does, 0 when there is none. It asks
// for others than the process that it is called in.
func Living(control string) (pid int, err error) {
	file, err := os.Open(listOf(control))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(file.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(lock.Pid), nil
}
