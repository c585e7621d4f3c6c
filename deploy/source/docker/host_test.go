package docker

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"golang.org/x/sys/unix"

	"dokku-expose/internal/dockertest"
	"dokku-expose/internal/need"
	"dokku-expose/internal/wait"
)

func TestDirect(t *testing.T) {
	subnets := []subnet{
		{netip.MustParsePrefix("fd00:1::1/64"), true},
		{netip.MustParsePrefix("10.8.0.0/24"), false},
		{netip.MustParsePrefix("172.17.0.1/16"), true},
		{netip.MustParsePrefix("172.18.0.1/16"), true},
		{netip.MustParsePrefix("10.0.0.0/8"), true},
	}
	type networks = map[string]*network.EndpointSettings
	v4 := func(ip string) *network.EndpointSettings { return &network.EndpointSettings{IPAddress: ip} }
	for _, row := range []struct {
		name     string
		mode     string
		networks networks
		want     string
	}{
		{"no network", "none", networks{"none": {}}, "[]"},
		{"a nil endpoint", "bridge", networks{"bridge": nil}, "[]"},
		{"one that does not run has no address", "bridge", networks{"bridge": v4("")}, "[]"},
		{"default means bridge", "default", networks{"bridge": v4("172.17.0.2")}, "[172.17.0.2]"},
		{"the initial network by id", "5f2", networks{"a": v4("172.17.0.3"), "b": {NetworkID: "5f2", IPAddress: "172.18.0.3"}}, "[172.18.0.3 172.17.0.3]"},
		{"IPv4 before IPv6", "a", networks{"a": {GlobalIPv6Address: "fd00:1::2", IPAddress: "172.18.0.2"}}, "[172.18.0.2 fd00:1::2]"},
		{"IPv6 only", "a", networks{"a": {GlobalIPv6Address: "fd00:1::2"}}, "[fd00:1::2]"},
		{"no interface in the subnet, as with overlay", "a", networks{"a": v4("192.168.9.2")}, "[]"},
		{"the narrowest subnet decides, as in routing", "a", networks{"a": v4("10.8.0.2")}, "[]"},
		{"beside the narrow one", "a", networks{"a": v4("10.8.1.2")}, "[10.8.1.2]"},
		{"an unreachable network does not hide others", "a", networks{"a": v4("192.168.9.2"), "b": v4("172.18.0.2")}, "[172.18.0.2]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := fmt.Sprint(direct(row.mode, row.networks, subnets)); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestPublishedPortsOfAContainer(t *testing.T) {
	for _, row := range []struct {
		name  string
		ports []container.Port
		want  string
	}{
		{"exposed only", []container.Port{{PrivatePort: 25, Type: "tcp"}}, "map[]"},
		{"TCP and UDP", []container.Port{{PrivatePort: 25, PublicPort: 8000, Type: "tcp"}, {PrivatePort: 25, PublicPort: 8001, Type: "udp"}}, "map[25:127.0.0.1:8000 25/udp:127.0.0.1:8001]"},
		{"SCTP", []container.Port{{PrivatePort: 25, PublicPort: 8000, Type: "sctp"}}, "map[]"},
		{"an address of its own", []container.Port{{IP: "192.0.2.1", PrivatePort: 25, PublicPort: 8000, Type: "tcp"}}, "map[25:192.0.2.1:8000]"},
		{"every IPv4 address", []container.Port{{IP: "0.0.0.0", PrivatePort: 25, PublicPort: 8000, Type: "tcp"}}, "map[25:127.0.0.1:8000]"},
		{"every IPv6 address", []container.Port{{IP: "::", PrivatePort: 25, PublicPort: 8000, Type: "tcp"}}, "map[25:[::1]:8000]"},
		{"no address given", []container.Port{{PrivatePort: 25, PublicPort: 8000, Type: "tcp"}}, "map[25:127.0.0.1:8000]"},
		{"IPv4 before IPv6, whatever the order", []container.Port{
			{IP: "::", PrivatePort: 25, PublicPort: 8000, Type: "tcp"}, {IP: "0.0.0.0", PrivatePort: 25, PublicPort: 8001, Type: "tcp"},
		}, "map[25:127.0.0.1:8001]"},
		{"the lowest of two", []container.Port{
			{IP: "127.0.0.1", PrivatePort: 25, PublicPort: 8001, Type: "tcp"}, {IP: "127.0.0.1", PrivatePort: 25, PublicPort: 8000, Type: "tcp"},
		}, "map[25:127.0.0.1:8000]"},
		{"an address that is none", []container.Port{{IP: "example.org", PrivatePort: 25, PublicPort: 8000, Type: "tcp"}}, "map[]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := fmt.Sprint(publishedPorts(row.ports)); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestHostSubnets(t *testing.T) {
	api := dockertest.Client(t)
	bridge := dockertest.Network(t, network.CreateOptions{Driver: "bridge"})
	inspected, err := api.NetworkInspect(context.Background(), bridge, network.InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	subnets, err := hostSubnets()
	if err != nil {
		t.Fatal(err)
	}
	if gateway := netip.MustParseAddr(inspected.IPAM.Config[0].Gateway); !reachable(gateway.Next(), subnets) {
		t.Errorf("%s, beside the bridge's own address, is not reachable in %v", gateway.Next(), subnets)
	}
	if !slices.IsSortedFunc(subnets, func(a, b subnet) int { return b.prefix.Bits() - a.prefix.Bits() }) {
		t.Errorf("the narrowest subnets don't come first: %v", subnets)
	}
	for _, addr := range []string{"127.0.0.1", "::1", "203.0.113.1"} {
		if reachable(netip.MustParseAddr(addr), subnets) {
			t.Errorf("%s counts as a container's address in %v", addr, subnets)
		}
	}
}

func TestAddressesAreThoseThatPackageNetFinds(t *testing.T) {
	// Other tests' networks may come and go between the two.
	for deadline := time.Now().Add(wait.Patience); ; {
		found, err := addresses()
		if err != nil {
			t.Fatal(err)
		}
		want := make(map[int][]netip.Prefix)
		interfaces, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range interfaces {
			addrs, err := i.Addrs()
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range addrs {
				want[i.Index] = append(want[i.Index], netip.MustParsePrefix(a.String()))
			}
		}
		if len(want) > 0 && maps.EqualFunc(found, want, slices.Equal) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %v, package net finds %v", found, want)
		}
	}
}

func TestLeadsToContainersNot(t *testing.T) {
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	for _, row := range []struct {
		name string
		make func(t *testing.T) string
	}{
		{"loopback", func(*testing.T) string { return "lo" }},
		{"an interface that is gone", func(*testing.T) string { return "dokku-expose-0" }},
		{"a tap device, as virtual machines have", tap},
	} {
		t.Run(row.name, func(t *testing.T) {
			if name := row.make(t); leadsToContainers(socket, name) {
				t.Errorf("%s counts as an interface to containers", name)
			}
		})
	}
}

// tap makes a network interface that lasts until the test ends.
func tap(t *testing.T) string {
	t.Helper()
	need.Root(t)
	device, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no tap devices here: %v", err)
	}
	t.Cleanup(func() { unix.Close(device) })
	request, err := unix.NewIfreq("expose%d")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(device, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	if name := request.Name(); strings.HasPrefix(name, "expose") {
		return name
	}
	t.Fatalf("the kernel called the interface %q", request.Name())
	return ""
}
