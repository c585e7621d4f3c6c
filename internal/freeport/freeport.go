// Package freeport reserves ports of this machine for tests and demos: none of several processes gets a port that another one has.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Ports come from below the ephemeral ports of Linux (32768-60999): a client's own port must not be in the way.
const (
	first = 10000
	end   = 32000
)

// reserved is what this process holds: a lock on one byte each of a file that all processes share. The kernel drops the locks of a
// process that dies.
var reserved = struct {
	sync.Mutex
	file  *os.File
	ports map[uint16]bool
}{ports: make(map[uint16]bool)}

// Take reserves a port on which nobody listens, on any address, until it is released or this process ends.
func Take() (uint16, error) {
	reserved.Lock()
	defer reserved.Unlock()
	if reserved.file == nil {
		file, err := os.OpenFile(filepath.Join(os.TempDir(), "dokku-expose.ports"), os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return 0, err
		}
		reserved.file = file
	}
	for _, offset := range rand.Perm(end - first) {
		port := uint16(first + offset)
		if reserved.ports[port] {
			continue
		}
		err := lock(port, unix.F_WRLCK)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			continue // another process has it
		}
		if err != nil {
			return 0, err
		}
		if isFree(port) {
			reserved.ports[port] = true
			return port, nil
		}
		if err := lock(port, unix.F_UNLCK); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("no free port from %d to %d", first, end-1)
}

// Release gives ports back that this process has taken.
func Release(ports ...uint16) error {
	reserved.Lock()
	defer reserved.Unlock()
	var errs []error
	for _, port := range ports {
		if reserved.ports[port] {
			delete(reserved.ports, port)
			errs = append(errs, lock(port, unix.F_UNLCK))
		}
	}
	return errors.Join(errs...)
}

// lock sets or drops the lock on a port's byte.
func lock(port uint16, kind int16) error {
	l := unix.Flock_t{Type: kind, Start: int64(port), Len: 1}
	if err := unix.FcntlFlock(reserved.file.Fd(), unix.F_OFD_SETLK, &l); err != nil {
		return fmt.Errorf("reserving port %d in %s: %w", port, reserved.file.Name(), err)
	}
	return nil
}

func isFree(port uint16) bool {
	ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	return err == nil && ln.Close() == nil
}
