package control

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// instancesFile is the path of a file on which each daemon of a control socket holds a lock as long as it runs, also after a takeover and
// while it shuts down, when it does not answer at the socket.
func instancesFile(control string) string { return control + ".daemons" }

// enlist makes this process one of the instances until the file is closed. The kernel drops the lock of a process that dies.
func enlist(control string) (*os.File, error) {
	file, err := os.OpenFile(instancesFile(control), os.O_RDONLY|os.O_CREATE, 0o600)
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

// FindRunning returns the PID of any other live daemon of this control socket, or 0.
func FindRunning(control string) (pid int, err error) {
	file, err := os.Open(instancesFile(control))
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
