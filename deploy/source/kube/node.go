package kube

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// node is the object of a node.
type node struct {
	Metadata object
	Status   struct {
		Addresses []struct{ Type, Address string }
	}
}

// onNode returns the name of the node that this host is, "" where it need not be one, and the addresses of this host. The name is
// remembered: a host that is no node can become one.
func (c *Client) onNode(ctx context.Context, s *session) (string, []netip.Addr, error) {
	own, err := c.addresses()
	if err != nil {
		return "", nil, fmt.Errorf("the addresses of this host: %w", err)
	}
	if c.config.Node != "" || c.config.Outside {
		return c.config.Node, own, nil
	}
	if name := s.node.Load(); name != nil {
		return *name, own, nil
	}
	all, name, err := c.nodes(ctx, s, own)
	if err != nil {
		return "", nil, err
	}
	if name == "" {
		return "", own, fmt.Errorf("%w: the cluster at %s (%s) has %d, none with an address of this host, so its pods can't be reached from here: "+
			"make this host a node (`dokku scheduler-k3s:cluster-add`, or `k3s agent`), or have the cluster's nodes serve the public ports (`dokku expose:k3s-install`)",
			ErrForeign, s.server.Redacted(), s.file, len(all))
	}
	s.node.Store(&name)
	return name, own, nil
}

// nodes returns the names of all nodes, and of the one that has one of these addresses, "" where none has.
func (c *Client) nodes(ctx context.Context, s *session, own []netip.Addr) (names []string, on string, err error) {
	list, _, err := list[node](ctx, c, s, question{what: "listing the nodes of the cluster", path: "/api/v1/nodes", kind: "Node"})
	for i := range list {
		names = append(names, list[i].Metadata.Name)
		for _, a := range list[i].Status.Addresses {
			if a.Type != "InternalIP" && a.Type != "ExternalIP" {
				continue
			}
			if addr, err := netip.ParseAddr(a.Address); err == nil && on == "" && slices.Contains(own, addr.Unmap()) {
				on = list[i].Metadata.Name
			}
		}
	}
	return names, on, err
}

// Nodes returns the names of all nodes of the cluster, and of the one that this host is, "" when it is none.
func (c *Client) Nodes(ctx context.Context) (names []string, on string, err error) {
	s, err := c.session()
	if err != nil {
		return nil, "", err
	}
	own, err := c.addresses()
	if err != nil {
		return nil, "", fmt.Errorf("the addresses of this host: %w", err)
	}
	return c.nodes(ctx, s, own)
}

// hostAddresses are those of this host's interfaces by which other machines can tell it: every host has the loopback ones.
func hostAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var own []netip.Addr
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().IsGlobalUnicast() {
			own = append(own, prefix.Addr().Unmap())
		}
	}
	return own, nil
}
