package haproxy

import (
	"cmp"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"dokku-expose/deploy"
)

// minSlots are enough for one server and three deploys in a row that each leave connections behind.
const minSlots = 4

// slotsFor is the number of slots of a route with n servers: room for as many new ones beside them, in powers of two, so that
// scaling up by one does not mean a reload each time.
func slotsFor(n int) int {
	if 2*n <= minSlots {
		return minSlots
	}
	return 1 << bits.Len(uint(2*n-1))
}

// plan gives each server of each route a slot. With keep, proxies keep the number of slots that they run with, which may be
// more than they need, so that this alone is no reason for a reload.
func plan(routes []deploy.Route, live *snapshot, keep bool) []proxy {
	proxies := make([]proxy, 0, len(routes))
	for _, r := range routes {
		p := proxy{name: proxyName(r.App, r.Listen), route: r}
		running := live.proxies[p.name]
		n := slotsFor(len(r.Servers))
		if keep {
			n = max(n, len(running))
		}
		p.slots = place(r.Servers, running[:min(n, len(running))], n)
		proxies = append(proxies, p)
	}
	slices.SortFunc(proxies, func(a, b proxy) int { return cmp.Compare(a.name, b.name) })
	for i := range proxies {
		proxies[i].allow = allowACLs(i, proxies[i].route.Options.Allow)
	}
	return proxies
}

// place chooses the slots of servers among n, of which running are there already. A server stays where it is. Another one
// gets the slot that is least likely to have connections of its former server, for these would count as the new one's: a
// slot without any, else the one that has been out of service for longest. Taking a slot breaks no connection: established
// ones stay with the address that they were made to.
func place(servers []deploy.Server, running []slot, n int) []*deploy.Server {
	slots := make([]*deploy.Server, n)
	var homeless []*deploy.Server
	placed := make(map[netip.AddrPort]bool, len(servers))
	for i := range servers {
		s := &servers[i]
		if placed[s.Addr] {
			continue
		}
		placed[s.Addr] = true
		if at := find(running, slots, s.Addr); at >= 0 {
			slots[at] = s
		} else {
			homeless = append(homeless, s)
		}
	}
	var free []int
	for i := range slots {
		if slots[i] == nil {
			free = append(free, i)
		}
	}
	slices.SortStableFunc(free, func(a, b int) int { return compareFree(at(running, a), at(running, b)) })
	for i, s := range homeless {
		slots[free[i]] = s
	}
	return slots
}

// find is the slot that has addr: one in service rather than one that had it before. It is -1 when there is none.
func find(running []slot, taken []*deploy.Server, addr netip.AddrPort) int {
	found := -1
	for i, s := range running {
		if s.addr == addr && taken[i] == nil && (found < 0 || s.ready && !running[found].ready) {
			found = i
		}
	}
	return found
}

// at is the running slot i; one that does not run yet is as good as one that was never used.
func at(running []slot, i int) slot {
	if i < len(running) {
		return running[i]
	}
	return slot{}
}

// compareFree orders slots by how good they are for a new server.
func compareFree(a, b slot) int {
	return cmp.Or(
		compareBool(a.ready, b.ready),
		compareBool(a.sessions > 0, b.sessions > 0),
		-cmp.Compare(a.age, b.age),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// serves tells whether the running slots give the new connections of r to r's servers, and to no other one.
func serves(r deploy.Route, running []slot) bool {
	now, want := make(map[netip.AddrPort]bool), make(map[netip.AddrPort]bool)
	for _, s := range running {
		if s.ready {
			now[s.addr] = true
		}
	}
	for _, s := range r.Servers {
		want[s.Addr] = true
	}
	return maps.Equal(now, want)
}

// reason says, for people, why proxies can't be had without a reload of what runs.
func reason(proxies []proxy, live *snapshot) string {
	var reasons []string
	wanted := make(map[string]bool, len(proxies))
	for _, p := range proxies {
		wanted[p.name] = true
		running, ok := live.proxies[p.name]
		switch {
		case !ok:
			reasons = append(reasons, fmt.Sprintf("new public port %s of %s", p.route.Listen, p.route.App))
		case len(running) < len(p.slots):
			reasons = append(reasons, fmt.Sprintf("more servers behind public port %s of %s", p.route.Listen, p.route.App))
		}
	}
	var gone []string
	for name := range live.proxies {
		if app, listen, ok := parseName(name); ok && !wanted[name] {
			gone = append(gone, fmt.Sprintf("public port %s of %s closed", listen, app))
		}
	}
	slices.Sort(gone)
	reasons = append(reasons, gone...)
	if len(reasons) == 0 {
		return "settings changed"
	}
	const most = 3
	if len(reasons) > most {
		reasons = append(reasons[:most], fmt.Sprintf("and %d more changes", len(reasons)-most))
	}
	return strings.Join(reasons, ", ")
}
