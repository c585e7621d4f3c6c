package rig

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

// Public ports are taken from below the ephemeral ports of Linux (32768-60999): a client's own port must not be in the way.
const (
	firstPort = 20000
	lastPort  = 32000
)

// portRange is the public ports that a host has taken: a lock on one byte each of a file that all hosts share. The kernel
// drops the locks of a process that dies.
type portRange struct {
	mu    sync.Mutex
	file  *os.File
	taken map[uint16]bool
}

// FreePort returns a port on which nobody listens, and which no other host in this or in another process gets before this
// one is closed.
func (h *Host) FreePort() (uint16, error) { return h.ports.take() }

func (r *portRange) take() (uint16, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		file, err := os.OpenFile(filepath.Join(os.TempDir(), "dokku-expose-rig.ports"), os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return 0, err
		}
		r.file, r.taken = file, make(map[uint16]bool)
	}
	for _, offset := range rand.Perm(lastPort - firstPort) {
		port := uint16(firstPort + offset)
		if r.taken[port] {
			continue
		}
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(port), Len: 1}
		err := unix.FcntlFlock(r.file.Fd(), unix.F_OFD_SETLK, &lock)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			continue // another host's
		}
		if err != nil {
			return 0, fmt.Errorf("reserving port %d in %s: %w", port, r.file.Name(), err)
		}
		r.taken[port] = true
		if isFree(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port from %d to %d", firstPort, lastPort)
}

func (r *portRange) release() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

func isFree(port uint16) bool {
	ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return false
	}
	return ln.Close() == nil
}
