package docker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"dokku-expose/deploy"
)

// The labels that Dokku's docker-local scheduler gives to the containers of apps.
const (
	labelApp     = "com.dokku.app-name"
	labelType    = "com.dokku.container-type"
	labelProcess = "com.dokku.process-type"
	labelDyno    = "com.dokku.dyno"

	// typeDeploy is the type of an app's own containers; those of `dokku run` and of cron tasks have others.
	typeDeploy = "deploy"
)

// Endpoints implements [deploy.Source] with a single call of Docker's API. An error that Docker does not answer wraps
// [ErrUnreachable].
func (c *Client) Endpoints(ctx context.Context) ([]deploy.Endpoint, error) {
	return c.containers(ctx, "listing the containers of all apps")
}

// EndpointsOf is Endpoints for a single app, which costs Docker less the more apps there are.
func (c *Client) EndpointsOf(ctx context.Context, app string) ([]deploy.Endpoint, error) {
	return c.containers(ctx, "listing the containers of "+app, filters.Arg("label", labelApp+"="+app))
}

func (c *Client) containers(ctx context.Context, what string, narrower ...filters.KeyValuePair) ([]deploy.Endpoint, error) {
	list, err := c.list(ctx, what, container.ListOptions{
		All:     true,
		Filters: filters.NewArgs(append(narrower, filters.Arg("label", labelType+"="+typeDeploy))...),
	})
	if err != nil {
		return nil, err
	}
	subnets, err := hostSubnets()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	containers := make([]deploy.Endpoint, len(list))
	for i := range list {
		containers[i] = neutral(&list[i], subnets)
	}
	return containers, nil
}

// Published is a TCP or UDP port that Docker publishes on this host. With Docker's userland-proxy off no socket shows it.
type Published struct {
	Listen deploy.Frontend
	// Container is the container's name, App the app's that it belongs to, "" where it is no app's.
	Container, App string
}

// PublishedPorts lists the TCP and UDP ports of this host that Docker publishes for any running container, of an app or not,
// ordered by address.
func (c *Client) PublishedPorts(ctx context.Context) ([]Published, error) {
	list, err := c.list(ctx, "listing the ports that Docker publishes", container.ListOptions{})
	if err != nil {
		return nil, err
	}
	var ports []Published
	for i := range list {
		s := &list[i]
		for _, port := range s.Ports {
			proto, known := protocols[port.Type]
			if addr, ok := published(port); ok && known {
				p := Published{Listen: deploy.Frontend{Proto: proto, IP: addr, Port: port.PublicPort}, Container: name(s)}
				// A container that somebody runs of an app's image has the labels of that, but no type.
				if s.Labels[labelType] == typeDeploy {
					p.App = s.Labels[labelApp]
				}
				ports = append(ports, p)
			}
		}
	}
	slices.SortFunc(ports, func(a, b Published) int {
		return cmp.Or(a.Listen.Compare(b.Listen), cmp.Compare(a.Container, b.Container))
	})
	return ports, nil
}

func (c *Client) list(ctx context.Context, what string, o container.ListOptions) ([]container.Summary, error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	list, err := c.api.ContainerList(ctx, o)
	if err != nil {
		return nil, c.failed(what, err)
	}
	return list, nil
}

// name is the container's name as people write it.
func name(s *container.Summary) string {
	if len(s.Names) == 0 {
		return s.ID
	}
	return strings.TrimPrefix(s.Names[0], "/")
}

// neutral turns Docker's view of a container into the model's.
func neutral(s *container.Summary, subnets []subnet) deploy.Endpoint {
	c := deploy.Endpoint{
		ID:          s.ID,
		App:         s.Labels[labelApp],
		Process:     s.Labels[labelProcess],
		Dyno:        s.Labels[labelDyno],
		Image:       s.ImageID,
		Running:     s.State == container.StateRunning,
		State:       s.State,
		NetworkMode: s.HostConfig.NetworkMode,
		HostNetwork: container.NetworkMode(s.HostConfig.NetworkMode).IsHost(),
		Published:   publishedPorts(s.Ports),
	}
	// With the host's network, with none, and with that of another container (container:ID) there is no address here: in
	// the last case the other container's address is not this one's own, and goes away with it.
	if s.NetworkSettings != nil {
		c.Direct = direct(s.HostConfig.NetworkMode, s.NetworkSettings.Networks, subnets)
	}
	return c
}

// direct are the container's addresses that the host reaches itself, the best network first, IPv4 before IPv6.
func direct(mode string, networks map[string]*network.EndpointSettings, subnets []subnet) []netip.Addr {
	rank := func(name string) int {
		switch {
		case name == network.NetworkBridge:
			return 0
		// Docker keeps the initial network as it was given: by name or by id.
		case name == mode, networks[name] != nil && networks[name].NetworkID == mode:
			return 1
		}
		return 2
	}
	names := slices.SortedFunc(maps.Keys(networks), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	var addrs []netip.Addr
	for _, name := range names {
		endpoint := networks[name]
		if endpoint == nil {
			continue
		}
		for _, text := range []string{endpoint.IPAddress, endpoint.GlobalIPv6Address} {
			// A network without IPv4 or IPv6, or a container that does not run, has "" here.
			if addr, err := netip.ParseAddr(text); err == nil && reachable(addr, subnets) {
				addrs = append(addrs, addr)
			}
		}
	}
	return addrs
}

// publishedPorts are the host addresses of the private ports. A port that is published more than once has its IPv4 address,
// then its lowest: the order in which Docker lists them means nothing.
func publishedPorts(ports []container.Port) map[deploy.PrivatePort]netip.AddrPort {
	found := make(map[deploy.PrivatePort]netip.AddrPort)
	for _, port := range ports {
		proto, known := protocols[port.Type]
		private := deploy.PrivatePort{Proto: proto, Port: port.PrivatePort}
		addr, ok := published(port)
		switch {
		case !ok || !known:
			continue
		case !addr.IsValid(), addr == netip.IPv4Unspecified():
			addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		case addr == netip.IPv6Unspecified():
			addr = netip.IPv6Loopback()
		}
		at := netip.AddrPortFrom(addr, port.PublicPort)
		if old, ok := found[private]; !ok || at.Compare(old) < 0 {
			found[private] = at
		}
	}
	return found
}

// protocols are those of public ports, by Docker's names. It has SCTP besides.
var protocols = map[string]deploy.Proto{"tcp": deploy.TCP, "udp": deploy.UDP}

// published is the host address at which a port is published, the zero Addr for every one, and whether it is at all:
// a port that an image only exposes is listed too, without a public one.
func published(port container.Port) (netip.Addr, bool) {
	if port.PublicPort == 0 {
		return netip.Addr{}, false
	}
	if port.IP == "" {
		return netip.Addr{}, true
	}
	addr, err := netip.ParseAddr(port.IP)
	return addr.Unmap(), err == nil
}
