package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
)

// portLacks tells which routes lead to servers that this host has few local ports left for, or none, to connect to them. The kernel
// knows that of every engine. Sessions of UDP are bounded before it comes to that.
func portLacks(routes []deploy.Route) ([]*deploy.Problem, error) {
	var servers []netip.AddrPort
	routes = slices.DeleteFunc(slices.Clone(routes), func(r deploy.Route) bool { return r.Key.Proto != deploy.TCP })
	for _, r := range routes {
		for _, s := range r.Servers {
			servers = append(servers, s.Addr)
		}
	}
	if len(servers) == 0 {
		return nil, nil
	}
	use, err := listeners.LocalPorts(servers)
	if err != nil {
		return nil, err
	}
	var problems []*deploy.Problem
	for _, r := range routes {
		for _, s := range r.Servers {
			if u := use[s.Addr]; u.Short() {
				problems = append(problems, &deploy.Problem{App: r.App, Key: r.Key, Err: portLack(r, s, u)})
			}
		}
	}
	return problems, nil
}

// portLack says the same each time while nothing changes much: the daemon logs what is new.
func portLack(r deploy.Route, s deploy.Server, u listeners.Use) error {
	what := fmt.Sprintf("at least half of the %d local ports of this host that connections to %s (%.12s) at %s can have are in use, so that each new one takes long",
		u.All, s.Dyno, s.Container, s.Addr)
	if u.Out() {
		what = fmt.Sprintf("this host has no local port left for connections to %s (%.12s) at %s: all %d are in use, so clients wait and the container is not at fault",
			s.Dyno, s.Container, s.Addr, u.All)
	}
	remedy := fmt.Sprintf("have more containers (dokku ps:scale %s %s=2), or more ports (sysctl net.ipv4.ip_local_port_range)", r.App, r.Process)
	if !u.Reused && u.TimeWait > u.Open {
		remedy = "most of them by connections that have ended (TIME_WAIT): let the kernel use these again, with sysctl -w net.ipv4.tcp_tw_reuse=1 and the same in a file in /etc/sysctl.d (Dokku in a container: docker run --sysctl net.ipv4.tcp_tw_reuse=1)"
	}
	return fmt.Errorf("%s; %s", what, remedy)
}

// WithPortLacks adds what is known of local ports to problems, in the place of what was found out by not getting one.
func WithPortLacks(problems []*deploy.Problem, routes []deploy.Route) ([]*deploy.Problem, error) {
	lacks, err := portLacks(routes)
	told := make(map[deploy.Key]bool)
	for _, l := range lacks {
		told[l.Key] = true
	}
	var all []*deploy.Problem
	for _, p := range problems {
		if !errors.Is(p, deploy.ErrHostLack) || !told[p.Key] {
			all = append(all, p)
		}
	}
	return append(all, lacks...), err
}
