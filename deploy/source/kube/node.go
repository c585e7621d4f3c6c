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

// onNode returns the name of the node that this host is, and the addresses of this host. The name is remembered: a host that is no node
// can become one.
func (c *Client) onNode(ctx context.Context, s *session) (string, []netip.Addr, error) {
	own, err := c.addresses()
	if err != nil {
		return "", nil, fmt.Errorf("the addresses of this host: %w", err)
	}
	if name := s.node.Load(); name != nil {
		return *name, own, nil
	}
	nodes, _, err := list[node](ctx, c, s, question{what: "listing the nodes of the cluster", path: "/api/v1/nodes", kind: "Node"})
	if err != nil {
		return "", nil, err
	}
	for i := range nodes {
		for _, a := range nodes[i].Status.Addresses {
			if a.Type != "InternalIP" && a.Type != "ExternalIP" {
				continue
			}
			if addr, err := netip.ParseAddr(a.Address); err == nil && slices.Contains(own, addr.Unmap()) {
				s.node.Store(&nodes[i].Metadata.Name)
				return nodes[i].Metadata.Name, own, nil
			}
		}
	}
	return "", own, fmt.Errorf("%w: the cluster at %s (%s) has %d, none with an address of this host, so its pods can't be reached from here: "+
		"make this host a node (`dokku scheduler-k3s:cluster-add`, or `k3s agent`), or run Dokku on one", ErrForeign, s.server.Redacted(), s.file, len(nodes))
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
