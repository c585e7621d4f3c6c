package deploy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Containers with the host's network share 127.0.0.1. Of two with the same private port only one can listen there, and neither
// Docker nor the address tells which.

// shareHost finds out which private ports the apps' running containers have on the host's network.
func (b *builder) shareHost() {
	b.onHost = make(map[PrivatePort][]string)
	for i := range b.apps {
		a := &b.apps[i]
		for _, p := range b.places(a) {
			c := b.byID[p.Container]
			if a.Off != "" || !b.serves(a, c) || !c.HostNetwork {
				continue
			}
			for _, claim := range slices.Concat(a.Images[b.imageOf(a, c)], a.Operator) {
				port := claim.PrivatePort()
				if claim.Process == p.Process && !slices.Contains(b.onHost[port], a.Name) {
					b.onHost[port] = append(b.onHost[port], a.Name)
				}
			}
		}
	}
}

// Contested says why a container of an app that is not in force yet may not be the one that listens on its private ports: a container of
// another app on the host's network has one of them.
func Contested(s Snapshot, app string, c Endpoint, claims []Claim) error {
	b := newBuilder(s, nil)
	b.shareHost()
	var errs []error
	asked := make(map[PrivatePort]bool)
	for _, claim := range claims {
		if port := claim.PrivatePort(); !asked[port] {
			errs = append(errs, b.contested(&App{Name: app}, &c, port.Proto, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port.Port)))
			asked[port] = true
		}
	}
	return errors.Join(errs...)
}

// contested says why c may not be the one that listens at addr, nil when it is. The app that alone is served there already goes on.
func (b *builder) contested(a *App, c *Endpoint, proto Proto, addr netip.AddrPort) error {
	port := PrivatePort{proto, addr.Port()}
	sharers := b.onHost[port]
	if !c.HostNetwork || !addr.Addr().IsLoopback() || len(sharers) == 0 || slices.Equal(sharers, []string{a.Name}) {
		return nil
	}
	same := func(at netip.AddrPort) bool { return at.Port() == addr.Port() && at.Addr().IsLoopback() }
	var served []string
	for key, service := range b.serving {
		if key.Proto == proto && slices.ContainsFunc(service.All(), same) && slices.Contains(sharers, service.App) && !slices.Contains(served, service.App) {
			served = append(served, service.App)
		}
	}
	if slices.Equal(served, []string{a.Name}) {
		return nil
	}
	others := slices.DeleteFunc(slices.Clone(sharers), func(name string) bool { return name == a.Name })
	slices.Sort(others)
	return fmt.Errorf("%s may not be the one that listens on port %s of this host: %s has a container on the host's network with that private port, too; "+
		"give one of them another private port, or a network of its own (`dokku network:set %s initial-network NETWORK`, `dokku ps:restart %s`)",
		c.label(), port, strings.Join(others, " and "), a.Name, a.Name)
}
