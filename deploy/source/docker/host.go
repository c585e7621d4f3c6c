package docker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// subnet is a network that an interface of this host has an address in.
type subnet struct {
	prefix netip.Prefix
	// direct tells that containers in it are reached at their own addresses.
	direct bool
}

// interfaceName asks for one name: a list of all interfaces has one for each running container.
func interfaceName(socket, index int) (string, error) {
	request, err := unix.NewIfreq("")
	if err != nil {
		return "", err
	}
	request.SetUint32(uint32(index))
	err = unix.IoctlIfreq(socket, unix.SIOCGIFNAME, request)
	return request.Name(), err
}

// hostSubnets are the subnets of this host's interfaces, the narrowest first, as the kernel prefers them too.
func hostSubnets() ([]subnet, error) {
	prefixes, err := addresses()
	if err != nil {
		return nil, fmt.Errorf("the addresses of this host: %w", err)
	}
	// Any socket will do to ask the kernel about interfaces.
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("the network interfaces of this host: socket: %w", err)
	}
	defer unix.Close(socket)
	var subnets []subnet
	for _, index := range slices.Sorted(maps.Keys(prefixes)) {
		// Each running container has an interface here, most often with a link-local address, at which none is reached.
		own := slices.DeleteFunc(prefixes[index], func(p netip.Prefix) bool { return p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() })
		if len(own) == 0 {
			continue
		}
		name, err := interfaceName(socket, index)
		if errors.Is(err, unix.ENODEV) {
			continue // It has gone.
		}
		if err != nil {
			return nil, fmt.Errorf("the network interfaces of this host: %w", err)
		}
		// A port of a bridge has no subnet of its own.
		if _, err := os.Stat("/sys/class/net/" + name + "/brport"); err == nil {
			continue
		}
		direct := leadsToContainers(socket, name)
		for _, prefix := range own {
			subnets = append(subnets, subnet{prefix: prefix, direct: direct})
		}
	}
	slices.SortStableFunc(subnets, func(a, b subnet) int { return b.prefix.Bits() - a.prefix.Bits() })
	return subnets, nil
}

// addresses are this host's own, with their subnets, by the index of the interface. Package net asks for those of one interface,
// for which the kernel lists all of them: on a host with many networks and containers that adds up.
func addresses() (map[int][]netip.Prefix, error) {
	answer, err := syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_UNSPEC)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	messages, err := syscall.ParseNetlinkMessage(answer)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	found := make(map[int][]netip.Prefix)
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
			continue
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return nil, os.NewSyscallError("netlink", err)
		}
		// The layout of struct ifaddrmsg, of the kernel's include/uapi/linux/if_addr.h.
		bits, index := int(m.Data[1]), int(binary.NativeEndian.Uint32(m.Data[4:]))
		var own netip.Addr
		for _, a := range attributes {
			// Where both are there, IFA_ADDRESS is the one at the other end of a tunnel.
			if a.Attr.Type == unix.IFA_LOCAL || a.Attr.Type == unix.IFA_ADDRESS && !own.IsValid() {
				own, _ = netip.AddrFromSlice(a.Value)
			}
		}
		if own.IsValid() {
			found[index] = append(found[index], netip.PrefixFrom(own, bits))
		}
	}
	return found, nil
}

// leadsToContainers tells whether the interface is a bridge, as Docker makes one for each network of the driver of that
// name, or a veth, which is how a container, and so a Dokku that is one, sits on such a bridge itself. An address in the
// subnet alone proves nothing: a host can't reach the containers of a macvlan or ipvlan network through their parent.
func leadsToContainers(socket int, name string) bool {
	info, err := unix.IoctlGetEthtoolDrvinfo(socket, name)
	// The loopback interface and some tunnels have no driver to name, which is an error here and an answer as well.
	if err != nil {
		return false
	}
	driver := unix.ByteSliceToString(info.Driver[:])
	return driver == "bridge" || driver == "veth"
}

// reachable tells whether the host sends packets for addr straight to containers.
func reachable(addr netip.Addr, subnets []subnet) bool {
	for _, s := range subnets {
		if s.prefix.Contains(addr) {
			return s.direct
		}
	}
	return false
}
