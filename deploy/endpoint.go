package deploy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Endpoint can serve: it is a container or a Kubernetes pod, of which the model knows whose it is, and where this host reaches it.
type Endpoint struct {
	// ID is a container's full id, or a pod's UID.
	ID string
	// App, Process and Dyno ("mail", "web", "web.1") are what Dokku's labels say, "" where it has no such label. A pod's Dyno is its name and
	// that of its node: "mail-web-5d5c-x2x@one".
	App, Process, Dyno string
	// Image is the id of a container's image ("sha256:..."), or the tag of a pod's ("tag:3").
	Image string
	// Running tells that a container runs, and is neither paused nor waiting for a restart; that a pod is ready, and not Leaving.
	Running bool
	// Pod tells that it is a pod: its cluster says what is deployed, and no file of Dokku's.
	Pod bool
	// Leaving tells that a pod is being deleted.
	Leaving bool
	// State is the source's word for that ("exited", "not ready"), NetworkMode Docker's for its network ("bridge", "none"): for messages.
	State, NetworkMode string
	// HostNetwork tells that it has no network of its own, but the host's.
	HostNetwork bool
	// Direct are its own addresses that this host reaches without any translation, the best one first.
	Direct []netip.Addr
	// Published leads from a private port to the address of this host where Docker publishes it.
	Published map[PrivatePort]netip.AddrPort
}

// PrivatePort is where an app listens inside its container.
type PrivatePort struct {
	Proto Proto
	Port  uint16
}

// String returns "5025", or "5353/udp".
func (p PrivatePort) String() string { return Frontend{Proto: p.Proto, Port: p.Port}.String() }

// MarshalText implements [encoding.TextMarshaler]: see [PrivatePort.String].
func (p PrivatePort) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *PrivatePort) UnmarshalText(text []byte) error {
	var k Key
	err := k.UnmarshalText(text)
	p.Proto, p.Port = k.Proto, k.Port
	return err
}

// Compare orders by port, TCP first.
func (p PrivatePort) Compare(o PrivatePort) int {
	return cmp.Or(cmp.Compare(p.Port, o.Port), cmp.Compare(p.Proto, o.Proto))
}

// Address is where this host reaches a private port.
type Address struct {
	Proto Proto
	netip.AddrPort
}

// String returns "172.17.0.2:5025", or "172.17.0.2:5353/udp".
func (a Address) String() string { return Frontend{a.Proto, a.Addr(), a.Port()}.String() }

func (a Address) compare(o Address) int {
	return cmp.Or(a.AddrPort.Compare(o.AddrPort), cmp.Compare(a.Proto, o.Proto))
}

// Upstream says which address of a container serves: a value of the setting `upstream`.
type Upstream string

const (
	// UpstreamAuto is the direct address where there is one, else the published one. The zero value means the same.
	UpstreamAuto Upstream = "auto"
	// UpstreamDirect is the container's own address.
	UpstreamDirect Upstream = "direct"
	// UpstreamPublished is the port that Docker publishes on the host, for hosts that don't reach containers directly.
	UpstreamPublished Upstream = "published"
)

// Targets are where this host reaches the container's private port, the best one first: with IPv6 there are two, of which the app may
// listen on one only. With the host's network it is 127.0.0.1, whatever u is. The error says what the container lacks, and the command
// that helps.
func (c Endpoint) Targets(u Upstream, private PrivatePort) ([]Target, error) {
	if !c.Running {
		if c.Pod {
			return nil, fmt.Errorf("%s is not ready (%s): see `dokku ps:report %s` and `dokku logs %s`", c.label(), c.State, c.App, c.App)
		}
		return nil, fmt.Errorf("%s does not run (Docker says %q): see `dokku ps:report %s` and `dokku logs %s`", c.label(), c.State, c.App, c.App)
	}
	if c.HostNetwork {
		return []Target{{Proto: private.Proto, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), private.Port)}}, nil
	}
	if (c.Pod || u != UpstreamPublished) && len(c.Direct) > 0 {
		targets := make([]Target, len(c.Direct))
		for i, ip := range c.Direct {
			targets[i] = Target{Proto: private.Proto, Addr: netip.AddrPortFrom(ip, private.Port)}
		}
		return targets, nil
	}
	if c.Pod {
		return nil, fmt.Errorf("%s has no address of its own (its network is %q): deploy it without hostNetwork", c.label(), c.NetworkMode)
	}
	if addr, ok := c.Published[private]; ok && u != UpstreamDirect {
		return []Target{{Proto: private.Proto, Addr: addr, Published: true}}, nil
	}
	if u == UpstreamPublished {
		return nil, fmt.Errorf("%s publishes no port %s on this host: `dokku ps:restart %s` creates its containers anew, with the port published", c.label(), private, c.App)
	}
	attach := fmt.Sprintf("attach it to one with `dokku network:set %s initial-network NETWORK`", c.App)
	switch {
	case strings.HasPrefix(c.NetworkMode, "container:"):
		// Docker publishes no port of such a container, and refuses to be asked.
		return nil, fmt.Errorf("%s has no address of its own, since it is in the network of another container; "+
			"take the option --network away (dokku docker-options:report %s shows it): dokku docker-options:remove %s deploy \"--network container:NAME\"; then `dokku ps:restart %s`",
			c.label(), c.App, c.App, c.App)
	case c.NetworkMode == "none":
		return nil, fmt.Errorf("%s has no network (its network mode is \"none\"), so nothing reaches it: %s; then `dokku ps:restart %s`", c.label(), attach, c.App)
	}
	return nil, fmt.Errorf("%s has no address that this host reaches directly (its network mode is %q; only bridge networks of this host count): "+
		"%s, or use ports published by Docker with `dokku expose:set %s upstream published`; then `dokku ps:restart %s`",
		c.label(), c.NetworkMode, attach, c.App, c.App)
}

// target is one of the container's own addresses.
func (c Endpoint) target(proto Proto, addr netip.AddrPort) Target {
	return Target{Proto: proto, Addr: addr, Published: !c.HostNetwork && !slices.Contains(c.Direct, addr.Addr())}
}

// Owns tells whether addr leads to the container.
func (c Endpoint) Owns(proto Proto, addr netip.AddrPort) bool {
	if slices.Contains(c.Direct, addr.Addr()) || c.HostNetwork && addr.Addr().IsLoopback() {
		return true
	}
	for private, published := range c.Published {
		if private.Proto == proto && published == addr {
			return true
		}
	}
	return false
}

// label names the endpoint in messages.
func (c Endpoint) label() string {
	if c.Pod {
		return fmt.Sprintf("pod %s of %s", c.Dyno, c.App)
	}
	return fmt.Sprintf("container %s (%s of %s)", shortID(c.ID), c.Dyno, c.App)
}
