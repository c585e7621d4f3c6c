// Package listeners tells who listens on this host's TCP ports. An engine looks before it binds: a test bind says nothing,
// since the one who looks may not be allowed to bind low ports, and SO_REUSEPORT would share a taken port silently.
//
// It sees the network namespace of the process and needs no privilege. It must know nothing of apps, engines or Docker;
// what Docker publishes without a socket of its own is for package docker.
package listeners

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/prometheus/procfs"

	"dokku-expose/deploy"
)

// Listener is a TCP socket that listens. With SO_REUSEPORT several have the same address.
type Listener struct {
	// IP is the address it is bound to, 0.0.0.0 or :: for every one. An IPv4 address is never in its IPv6 form.
	IP   netip.Addr
	Port uint16
	// V6Only tells that a socket bound to :: takes no IPv4 connections. Where the kernel does not say, it is false: a port
	// that looks taken and is not does less harm than the other way round.
	V6Only bool
	// UID is the user that opened it.
	UID uint32
	// Inode is the socket's number, as links in /proc/PID/fd show it; 0 when no process has it open.
	Inode uint64
}

// List returns all TCP sockets that listen in the network namespace of the caller, IPv4 and IPv6.
func List() ([]Listener, error) {
	list, err := fromSockDiag()
	if err == nil {
		return list, nil
	}
	// Kernels without tcp_diag, and services without the right to open netlink sockets, still have /proc.
	list, procErr := fromProc()
	if procErr != nil {
		return nil, fmt.Errorf("who listens on the TCP ports of this host can't be found out: %w", errors.Join(err, procErr))
	}
	return list, nil
}

// Listen is the public address that the listener takes.
func (l Listener) Listen() deploy.Listen {
	if l.IP == netip.IPv6Unspecified() && !l.V6Only {
		return deploy.Listen{Port: l.Port}
	}
	return deploy.Listen{IP: l.IP.WithZone(""), Port: l.Port}
}

// Conflicts tells whether the listener takes a part of what o wants: binding o would fail, or share the port.
func (l Listener) Conflicts(o deploy.Listen) bool {
	o.IP = o.IP.Unmap().WithZone("")
	return l.Listen().Overlaps(o)
}

// Is tells whether the listener is that of the one who serves o: nobody else can listen on the same address. Of somebody who
// serves every address it is one on all of a family.
func (l Listener) Is(o deploy.Listen) bool {
	return l.Port == o.Port && (l.IP.WithZone("") == o.IP || !o.IP.IsValid() && l.IP.IsUnspecified())
}

// stateListen is TCP_LISTEN of the kernel's include/net/tcp_states.h.
const stateListen = 10

// fromProc reads /proc/net/tcp and tcp6, which list every connection of the host too and don't tell V6Only.
func fromProc() ([]Listener, error) {
	// Not /proc/net, which is that of the process's first thread.
	thread, err := procfs.NewFS("/proc/thread-self")
	if err != nil {
		return nil, err
	}
	sockets, err := thread.NetTCP()
	if err != nil {
		return nil, err
	}
	sockets6, err := thread.NetTCP6()
	// A kernel without IPv6 has no such file.
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []Listener
	for _, s := range append(sockets, sockets6...) {
		if s.St != stateListen {
			continue
		}
		ip, ok := netip.AddrFromSlice(s.LocalAddr)
		if !ok || s.LocalPort > 65535 || s.UID > 1<<32-1 {
			return nil, fmt.Errorf("/proc/net/tcp lists a socket at %v, port %d, of user %d", s.LocalAddr, s.LocalPort, s.UID)
		}
		list = append(list, Listener{IP: ip.Unmap(), Port: uint16(s.LocalPort), UID: uint32(s.UID), Inode: s.Inode})
	}
	return list, nil
}

// Who names the process that listens, for messages: "nginx (pid 812)". Only root and its own user may know that; for
// others it is "a process of user root".
func Who(l Listener) string {
	if p, ok := holder(l); ok {
		if name, err := p.Comm(); err == nil {
			return fmt.Sprintf("%s (pid %d)", name, p.PID)
		}
	}
	uid := strconv.FormatUint(uint64(l.UID), 10)
	if u, err := user.LookupId(uid); err == nil {
		return "a process of user " + u.Username
	}
	return "a process of user id " + uid
}

// holder is the first of the processes that have the socket open: of a server with workers, its master. That a process
// can't be looked into means that it may be the one, which is what the caller makes of no result at all.
func holder(l Listener) (procfs.Proc, bool) {
	var found procfs.Proc
	if l.Inode == 0 {
		return found, false
	}
	procs, err := procfs.AllProcs()
	if err != nil {
		return found, false
	}
	link := "socket:[" + strconv.FormatUint(l.Inode, 10) + "]"
	for _, p := range procs {
		if found.PID != 0 && found.PID < p.PID {
			continue
		}
		if targets, err := p.FileDescriptorTargets(); err == nil && slices.Contains(targets, link) {
			found = p
		}
	}
	return found, found.PID != 0
}

// Open returns the numbers of the sockets that the processes have open, and whether all of these that live could be looked into.
func Open(pids []int) (inodes map[uint64]bool, seen bool) {
	inodes = make(map[uint64]bool)
	for _, pid := range pids {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		files, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrPermission) {
			return nil, false
		}
		// With any other error it has ended.
		for _, file := range files {
			target, err := os.Readlink(filepath.Join(dir, file.Name()))
			if errors.Is(err, fs.ErrPermission) {
				// A process that has a capability which this one has not shows its user how many files it has open, but not which.
				return nil, false
			}
			var inode uint64
			if _, err := fmt.Sscanf(target, "socket:[%d]", &inode); err == nil {
				inodes[inode] = true
			}
		}
	}
	return inodes, true
}

// Users are the ids of the users that the processes run as, of those that live.
func Users(pids []int) []uint32 {
	var users []uint32
	for _, pid := range pids {
		p, err := procfs.NewProc(pid)
		if err != nil {
			continue
		}
		// The owner of the folder may be root's, whoever runs it.
		if status, err := p.NewStatus(); err == nil {
			users = append(users, uint32(status.UIDs[1]))
		}
	}
	return users
}
