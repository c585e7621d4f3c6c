package docker

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// subnet is a network that an interface of this host has an address in.
type subnet struct {
	prefix netip.Prefix
	// direct tells that containers in it are reached at their own addresses.
	direct bool
}

// hostSubnets are the subnets of this host's interfaces, the narrowest first, as the kernel prefers them too.
func hostSubnets() ([]subnet, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("the network interfaces of this host: %w", err)
	}
	// Any socket will do to ask the kernel about interfaces.
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("the network interfaces of this host: socket: %w", err)
	}
	defer unix.Close(socket)
	var subnets []subnet
	for _, i := range interfaces {
		// A port of a bridge has no subnet of its own. Every running container has one, and asking each for its addresses
		// means that the kernel lists all addresses of the host each time.
		if _, err := os.Stat("/sys/class/net/" + i.Name + "/brport"); err == nil {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("the addresses of the network interface %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				subnets = append(subnets, subnet{prefix: prefix, direct: leadsToContainers(socket, i.Name)})
			}
		}
	}
	slices.SortStableFunc(subnets, func(a, b subnet) int { return b.prefix.Bits() - a.prefix.Bits() })
	return subnets, nil
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
