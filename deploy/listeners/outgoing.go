package listeners

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"dokku-expose/deploy"
)

// connected are all states but listening and closed. A UDP socket in one of them has a single peer.
const connected = (1<<(stateLast+1) - 2) &^ (1<<stateListen | 1<<stateClose)

// Where the kernel keeps which ports it gives to outgoing connections, for the caller's network namespace.
const (
	rangeFile    = "/proc/sys/net/ipv4/ip_local_port_range"
	reservedFile = "/proc/sys/net/ipv4/ip_local_reserved_ports"
)

// InUse is the error for an address that can't be bound though nobody listens on it: the outgoing connection that has it, or [ErrInUse].
func InUse(l deploy.Frontend) error { return cmp.Or(occupied(l), ErrInUse) }

// occupied says which outgoing connection has the port of l as its local one: while it does, nobody can listen on l. It is nil when
// none has it.
func occupied(l deploy.Frontend) error {
	all, err := sockets(l.Proto, connected)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(s socket) bool {
		return !deploy.Frontend{Proto: s.proto, IP: s.local.Addr(), Port: s.local.Port()}.Overlaps(l)
	})
	if len(all) == 0 {
		return nil
	}
	// One in TIME_WAIT has no process any more.
	s := slices.MinFunc(all, func(a, b socket) int { return cmp.Compare(timeWait(a), timeWait(b)) })
	reserve, err := reserving([]uint16{l.Port})
	if err != nil {
		return err
	}
	if timeWait(s) == 1 {
		return fmt.Errorf("a connection of this host to %s, which has ended, keeps the port for up to a minute (TIME_WAIT); use another public port, or reserve this one and try again in a minute: %s", s.remote, reserve)
	}
	return fmt.Errorf("a connection of %s to %s has it as its local port; use another public port, or reserve this one and end that connection (%s names it): %s",
		who(s.uid, s.inode), s.remote, ss("", l), reserve)
}

func timeWait(s socket) int {
	if s.state == stateTimeWait {
		return 1
	}
	return 0
}

// reserving is how to keep the kernel from giving ports to outgoing connections.
func reserving(ports []uint16) (string, error) {
	text, err := os.ReadFile(reservedFile)
	if err != nil {
		return "", err
	}
	list := append(strings.FieldsFunc(strings.TrimSpace(string(text)), func(c rune) bool { return c == ',' }), deploy.PortRanges(ports, ","))
	return "sysctl -w net.ipv4.ip_local_reserved_ports=" + strings.Join(list, ",") + " (and the same in a file in /etc/sysctl.d, for the next boot)", nil
}

// Unreserved says how to reserve those of the ports that the kernel may give to outgoing connections while nobody listens on them; it is
// "" when there are none.
func Unreserved(ports []uint16) (which, remedy string, err error) {
	local, err := localPorts()
	if err != nil {
		return "", "", err
	}
	ports = slices.DeleteFunc(slices.Clone(ports), func(p uint16) bool { return !local.contains(p) })
	if len(ports) == 0 {
		return "", "", nil
	}
	remedy, err = reserving(ports)
	return deploy.PortRanges(ports, ","), remedy, err
}

// portRange are the ports that the kernel gives to outgoing connections.
type portRange struct {
	first, last uint16
	reserved    map[uint16]bool
}

func (r portRange) contains(port uint16) bool {
	return port >= r.first && port <= r.last && !r.reserved[port]
}

func localPorts() (r portRange, err error) {
	text, err := os.ReadFile(rangeFile)
	if err != nil {
		return r, err
	}
	if _, err := fmt.Sscan(string(text), &r.first, &r.last); err != nil {
		return r, fmt.Errorf("%s: %q: %w", rangeFile, text, err)
	}
	if text, err = os.ReadFile(reservedFile); err != nil {
		return r, err
	}
	r.reserved = make(map[uint16]bool)
	for _, item := range strings.FieldsFunc(strings.TrimSpace(string(text)), func(c rune) bool { return c == ',' }) {
		from, to, isRange := strings.Cut(item, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 16)
		if err != nil {
			return r, fmt.Errorf("%s: %w", reservedFile, err)
		}
		last, err := strconv.ParseUint(to, 10, 16)
		if err != nil {
			return r, fmt.Errorf("%s: %w", reservedFile, err)
		}
		for port := first; port <= last; port++ {
			r.reserved[uint16(port)] = true
		}
	}
	return r, nil
}

// Connections counts this host's established TCP connections to the addresses.
func Connections(to map[netip.AddrPort]bool) (n int, err error) {
	established, err := sockets(deploy.TCP, 1<<stateEstablished)
	for _, s := range established {
		if to[s.remote] {
			n++
		}
	}
	return n, err
}

// Use tells how many of this host's local ports the TCP connections to a server have.
type Use struct {
	// All is how many there are.
	All int
	// Open have an open connection, TimeWait one that has ended and keeps the port for a minute.
	Open, TimeWait int
	// Reused tells that the kernel gives a port in TIME_WAIT to a new connection (tcp_tw_reuse=1).
	Reused bool
}

// taken are those that no other connection can have.
func (u Use) taken() int {
	if u.Reused {
		return u.Open
	}
	return u.Open + u.TimeWait
}

// Out tells that there are none left.
func (u Use) Out() bool { return u.taken() >= u.All }

// Short tells that at least half of them are taken. From then on the kernel looks at all of that half for each new connection, which
// takes milliseconds, before it looks at the other one.
func (u Use) Short() bool { return u.taken() >= (u.All+1)/2 }

// LocalPorts counts the local ports in use for connections to each of the servers.
func LocalPorts(servers []netip.AddrPort) (map[netip.AddrPort]Use, error) {
	local, err := localPorts()
	if err != nil {
		return nil, err
	}
	reuse, err := os.ReadFile("/proc/sys/net/ipv4/tcp_tw_reuse")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all, err := sockets(deploy.TCP, connected|1<<stateListen)
	if err != nil {
		return nil, err
	}
	// A port that somebody listens on is given to no connection.
	for _, s := range all {
		if s.state == stateListen {
			local.reserved[s.local.Port()] = true
		}
	}
	use := make(map[netip.AddrPort]Use, len(servers))
	for _, addr := range servers {
		// By default (2) it goes for loopback addresses only.
		mode := strings.TrimSpace(string(reuse))
		use[addr] = Use{All: local.size(), Reused: mode == "1" || mode == "2" && addr.Addr().IsLoopback()}
	}
	for _, s := range all {
		u, asked := use[s.remote]
		switch {
		case !asked || !local.contains(s.local.Port()):
			continue
		case s.state == stateTimeWait:
			u.TimeWait++
		default:
			u.Open++
		}
		use[s.remote] = u
	}
	return use, nil
}

func (r portRange) size() int {
	n := int(r.last) - int(r.first) + 1
	for port := range r.reserved {
		if port >= r.first && port <= r.last {
			n--
		}
	}
	return n
}
