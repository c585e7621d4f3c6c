package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"

	"dokku-expose/deploy"
)

// Taken is a public port of this host that the cluster takes before any process that listens: binding it succeeds, and nothing arrives.
type Taken struct {
	Frontend deploy.Frontend
	// What is the service or the pod, for messages: "Service kube-system/traefik of type LoadBalancer", "hostPort of pod kube-system/svclb-traefik".
	What string
}

// service is the object of a service.
type service struct {
	Metadata object
	Spec     struct {
		Type        string
		ExternalIPs []string
		Ports       []struct {
			Port, NodePort uint16
			Protocol       string
		}
	}
	Status struct {
		LoadBalancer struct {
			Ingress []struct{ IP, Hostname string }
		}
	}
}

// Taken lists the public ports of this host that services and pods of the cluster take, ordered by address. There is none where this host
// is no node.
func (c *Client) Taken(ctx context.Context) ([]Taken, error) {
	s, err := c.session()
	if err != nil {
		return nil, err
	}
	node, own, err := c.onNode(ctx, s)
	if errors.Is(err, ErrForeign) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	services, _, err := list[service](ctx, c, s, question{what: "listing the services of the cluster", path: "/api/v1/services", kind: "Service"})
	if err != nil {
		return nil, err
	}
	pods, _, err := list[pod](ctx, c, s, question{what: "listing the pods of this node", path: allPods, kind: "Pod", query: url.Values{
		"fieldSelector": {"spec.nodeName=" + node + ",status.phase!=" + succeeded + ",status.phase!=" + failed},
	}})
	if err != nil {
		return nil, err
	}
	var all []Taken
	for i := range services {
		all = append(all, byService(&services[i], own)...)
	}
	for i := range pods {
		all = append(all, byPod(&pods[i])...)
	}
	slices.SortFunc(all, func(a, b Taken) int {
		return cmp.Or(a.Frontend.Compare(b.Frontend), cmp.Compare(a.What, b.What))
	})
	return slices.Compact(all), nil
}

// byService are the ports that a service takes of a host with these addresses.
func byService(s *service, own []netip.Addr) (taken []Taken) {
	of := Taken{What: fmt.Sprintf("Service %s/%s of type %s", s.Metadata.Namespace, s.Metadata.Name, s.Spec.Type)}
	// The zero Addr stands for every address.
	var at []netip.Addr
	if s.Spec.Type == "LoadBalancer" && s.balances(own) {
		at = append(at, netip.Addr{})
	}
	for _, text := range s.Spec.ExternalIPs {
		if addr, err := netip.ParseAddr(text); err == nil && slices.Contains(own, addr.Unmap()) {
			at = append(at, addr.Unmap())
		}
	}
	for _, port := range s.Spec.Ports {
		for _, addr := range at {
			taken = of.appendTo(taken, addr, port.Port, port.Protocol)
		}
		taken = of.appendTo(taken, netip.Addr{}, port.NodePort, port.Protocol)
	}
	return taken
}

// balances tells whether a service of type LoadBalancer can be at one of the addresses: it is, or it is not said yet where.
func (s *service) balances(own []netip.Addr) bool {
	for _, in := range s.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(in.IP); err != nil || slices.Contains(own, addr.Unmap()) {
			return true
		}
	}
	return len(s.Status.LoadBalancer.Ingress) == 0
}

// byPod are the ports that a pod takes of its node.
func byPod(p *pod) (taken []Taken) {
	of := Taken{What: fmt.Sprintf("hostPort of pod %s/%s", p.Metadata.Namespace, p.Metadata.Name)}
	for _, container := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, port := range container.Ports {
			addr, err := netip.ParseAddr(port.HostIP)
			if err != nil || addr.IsUnspecified() {
				addr = netip.Addr{}
			}
			taken = of.appendTo(taken, addr.Unmap(), port.HostPort, port.Protocol)
		}
	}
	return taken
}

// appendTo adds a port where it is one, of a protocol that apps can have too.
func (t Taken) appendTo(list []Taken, addr netip.Addr, port uint16, protocol string) []Taken {
	switch protocol {
	case "TCP", "":
		t.Frontend.Proto = deploy.TCP
	case "UDP":
		t.Frontend.Proto = deploy.UDP
	default:
		return list
	}
	if port == 0 {
		return list
	}
	t.Frontend.IP, t.Frontend.Port = addr, port
	return append(list, t)
}
