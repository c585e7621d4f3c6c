// Package listeners tells who has this host's TCP and UDP ports: who listens on one, and which outgoing connections use one as their
// local port. An engine looks before it binds: a test bind alone says too little, since the one who looks may not be allowed to bind low
// ports, and SO_REUSEPORT would share a taken port silently.
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

// Listener is a TCP socket that listens, or a UDP socket that is bound and takes datagrams from everybody. With SO_REUSEPORT several have
// the same address.
type Listener struct {
	Proto deploy.Proto
	// IP is the address it is bound to, 0.0.0.0 or :: for every one. An IPv4 address is never in its IPv6 form.
	IP   netip.Addr
	Port uint16
	// V6Only tells that a socket bound to :: takes nothing of IPv4. Where the kernel does not say, it is false: a port
	// that looks taken and is not does less harm than the other way round.
	V6Only bool
	// UID is the user that opened it.
	UID uint32
	// Inode is the socket's number, as links in /proc/PID/fd show it; 0 when no process has it open.
	Inode uint64
}

// List returns all sockets that listen in the network namespace of the caller, TCP and UDP, IPv4 and IPv6. A UDP socket that is connected
// is none: it takes datagrams of one peer only, as those of an outgoing DNS query.
func List() ([]Listener, error) { return listFrom(sockets) }

// listFrom makes the list from one of the ways to ask the kernel.
func listFrom(sockets func(proto deploy.Proto, states uint32) ([]socket, error)) ([]Listener, error) {
	tcp, err := sockets(deploy.TCP, 1<<stateListen)
	if err != nil {
		return nil, err
	}
	udp, err := sockets(deploy.UDP, 1<<stateClose)
	if err != nil {
		return nil, err
	}
	list := make([]Listener, 0, len(tcp)+len(udp))
	for _, s := range append(tcp, udp...) {
		list = append(list, Listener{Proto: s.proto, IP: s.local.Addr(), Port: s.local.Port(), V6Only: s.v6Only, UID: s.uid, Inode: s.inode})
	}
	return list, nil
}

// socket is what the kernel tells of a socket. An IPv4 address is never in its IPv6 form.
type socket struct {
	proto         deploy.Proto
	state         uint8
	local, remote netip.AddrPort
	v6Only        bool
	uid           uint32
	inode         uint64
}

// Values of the kernel's include/net/tcp_states.h. UDP sockets have two of them: established when they are connected, else close.
const (
	stateEstablished = 1
	stateTimeWait    = 6
	stateClose       = 7
	stateListen      = 10
	stateLast        = 12
)

// sockets returns the sockets of a protocol in some states, as a mask.
func sockets(proto deploy.Proto, states uint32) ([]socket, error) {
	list, err := fromSockDiag(proto, states)
	if err == nil {
		return list, nil
	}
	// Kernels without tcp_diag or udp_diag, and services without the right to open netlink sockets, still have /proc.
	list, procErr := fromProc(proto, states)
	if procErr != nil {
		return nil, fmt.Errorf("who has the ports of this host can't be found out: %w", errors.Join(err, procErr))
	}
	return list, nil
}

// Listen is the public address that the listener takes.
func (l Listener) Listen() deploy.Frontend {
	if l.IP == netip.IPv6Unspecified() && !l.V6Only {
		return deploy.Frontend{Proto: l.Proto, Port: l.Port}
	}
	return deploy.Frontend{Proto: l.Proto, IP: l.IP.WithZone(""), Port: l.Port}
}

// Conflicts tells whether the listener takes a part of what o wants: binding o would fail, or share the port.
func (l Listener) Conflicts(o deploy.Frontend) bool {
	o.IP = o.IP.Unmap().WithZone("")
	return l.Listen().Overlaps(o)
}

// Is tells whether the listener is that of the one who serves o: nobody else can listen on the same address. Of somebody who
// serves every address it is one on all of a family.
func (l Listener) Is(o deploy.Frontend) bool {
	return l.Proto == o.Proto && l.Port == o.Port && (l.IP.WithZone("") == o.IP || !o.IP.IsValid() && l.IP.IsUnspecified())
}

// fromProc reads /proc/net/tcp and tcp6, or udp and udp6, which list all sockets of the host and don't tell V6Only.
func fromProc(proto deploy.Proto, states uint32) ([]socket, error) {
	// Not /proc/net, which is that of the process's first thread.
	thread, err := procfs.NewFS("/proc/thread-self")
	if err != nil {
		return nil, err
	}
	var all procfs.NetIPSocket
	if proto == deploy.UDP {
		all, err = bothFamilies(thread.NetUDP, thread.NetUDP6)
	} else {
		all, err = bothFamilies(thread.NetTCP, thread.NetTCP6)
	}
	if err != nil {
		return nil, err
	}
	var list []socket
	for _, s := range all {
		if s.St > stateLast || states&(1<<s.St) == 0 {
			continue
		}
		local, ok := netip.AddrFromSlice(s.LocalAddr)
		remote, ok6 := netip.AddrFromSlice(s.RemAddr)
		if !ok || !ok6 || s.LocalPort > 65535 || s.RemPort > 65535 || s.UID > 1<<32-1 {
			return nil, fmt.Errorf("/proc/net lists a socket at %v, port %d, of user %d", s.LocalAddr, s.LocalPort, s.UID)
		}
		list = append(list, socket{
			proto: proto, state: uint8(s.St), uid: uint32(s.UID), inode: s.Inode,
			local:  netip.AddrPortFrom(local.Unmap(), uint16(s.LocalPort)),
			remote: netip.AddrPortFrom(remote.Unmap(), uint16(s.RemPort)),
		})
	}
	return list, nil
}

func bothFamilies[T procfs.NetTCP | procfs.NetUDP](v4, v6 func() (T, error)) (procfs.NetIPSocket, error) {
	all, err := v4()
	if err != nil {
		return nil, err
	}
	all6, err := v6()
	// A kernel without IPv6 has no such file.
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return procfs.NetIPSocket(append(all, all6...)), nil
}

// Who names the process that listens, for messages: "nginx (pid 812)". Only root and its own user may know that; for
// others it is "a process of user root".
func Who(l Listener) string { return who(l.UID, l.Inode) }

func who(owner uint32, inode uint64) string {
	if p, ok := holder(inode); ok {
		if name, err := p.Comm(); err == nil {
			return fmt.Sprintf("%s (pid %d)", name, p.PID)
		}
	}
	uid := strconv.FormatUint(uint64(owner), 10)
	if u, err := user.LookupId(uid); err == nil {
		return "a process of user " + u.Username
	}
	return "a process of user id " + uid
}

// TakenBy says which of sockets conflicts with l, those of the addresses own left out. It is nil when none does, or none any more.
func TakenBy(l deploy.Frontend, sockets []Listener, own []deploy.Frontend) error {
	for _, s := range sockets {
		if !s.Conflicts(l) || slices.ContainsFunc(own, s.Is) {
			continue
		}
		taken := Taken(s)
		// Of one that closes while its process is looked for, nobody could be named.
		if now, err := List(); err != nil || slices.Contains(now, s) {
			return taken
		}
	}
	return nil
}

// Taken says that a process listens on a port already, and how to get the port.
func Taken(l Listener) error {
	return fmt.Errorf("%s listens on it already; use another public port, or stop that process (%s names it)%s", Who(l), Command(l.Listen()), nginxHint(l))
}

// Command is the one that names the processes that listen on the port of f.
func Command(f deploy.Frontend) string { return ss("l", f) }

// ss is the command that names the processes with a socket at the port of f: connected ones, or with the flag l those that listen.
func ss(flag string, f deploy.Frontend) string {
	proto := "t"
	if f.Proto == deploy.UDP {
		proto = "u"
	}
	return fmt.Sprintf("ss -%s%snp 'sport = :%d'", flag, proto, f.Port)
}

// nginxHint is for Dokku's nginx, which `dokku proxy:disable` does not reload.
func nginxHint(l Listener) string {
	const reload = "nginx keeps a port that it has given up until: dokku nginx:reload"
	if p, known := holder(l.Inode); known {
		if isNginx(p) {
			return "; " + reload
		}
		return ""
	}
	procs, err := procfs.AllProcs()
	if err == nil && l.UID == 0 && slices.ContainsFunc(procs, isNginx) {
		return "; if it is nginx: " + reload
	}
	return ""
}

func isNginx(p procfs.Proc) bool {
	name, err := p.Comm()
	return err == nil && name == "nginx"
}

// holder is the first of the processes that have the socket open: of a server with workers, its master. That a process
// can't be looked into means that it may be the one, which is what the caller makes of no result at all.
func holder(inode uint64) (procfs.Proc, bool) {
	var found procfs.Proc
	if inode == 0 {
		return found, false
	}
	procs, err := procfs.AllProcs()
	if err != nil {
		return found, false
	}
	link := "socket:[" + strconv.FormatUint(inode, 10) + "]"
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
