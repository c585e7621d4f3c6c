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
	proxies, named := make([]proxy, 0, len(routes)), namedFrontends(routes)
	for _, r := range routes {
		proxies = append(proxies, proxy{name: proxyName(r.App, r.Key), route: r, named: named[r.Key.Frontend()]})
	}
	slices.SortFunc(proxies, func(a, b proxy) int { return cmp.Compare(a.name, b.name) })
	for _, group := range grouped(proxies) {
		var n int
		lots := make([]lot, len(group))
		for i, p := range group {
			lots[i] = lot{p.route.Servers, live.proxies[p.name]}
			if keep {
				n = max(n, len(lots[i].running))
			}
		}
		n = max(n, slotsFor(tenants(lots)))
		for i, slots := range place(lots, n) {
			group[i].slots = slots
		}
	}
	return proxies
}

// grouped puts those proxies together that must have each container in the same slot: HAProxy chooses by the source's address and
// the number of the slot, and ports of one process type belong together (FTP's control and data, Postgres' cancel requests).
func grouped(proxies []proxy) [][]*proxy {
	var groups [][]*proxy
	together := make(map[[2]string]int)
	for i := range proxies {
		p := &proxies[i]
		key := [2]string{p.route.App, p.route.Process}
		if at, ok := together[key]; ok && p.route.Options.Balance == deploy.BySource {
			groups[at] = append(groups[at], p)
			continue
		}
		if p.route.Options.Balance == deploy.BySource {
			together[key] = len(groups)
		}
		groups = append(groups, []*proxy{p})
	}
	return groups
}

// lot is what one proxy of a group is to serve, and the slots that it runs with.
type lot struct {
	servers []deploy.Server
	running []slot
}

// tenant is what has the same slot in all lots: a container, or where it is not known an address.
type tenant struct {
	container string
	addr      netip.AddrPort
}

// tenant is that of a server. A second server of a container in the same lot is a tenant of its own.
func (l lot) tenant(s deploy.Server) tenant {
	first := slices.IndexFunc(l.servers, func(o deploy.Server) bool { return o.Container == s.Container })
	if s.Container == "" || l.servers[first].Addr != s.Addr {
		return tenant{addr: s.Addr}
	}
	return tenant{container: s.Container}
}

// byTenant are the servers of a lot, each address once.
func (l lot) byTenant() map[tenant]*deploy.Server {
	servers := make(map[tenant]*deploy.Server, len(l.servers))
	placed := make(map[netip.AddrPort]bool, len(l.servers))
	for i := range l.servers {
		if s := &l.servers[i]; !placed[s.Addr] {
			placed[s.Addr] = true
			servers[l.tenant(*s)] = s
		}
	}
	return servers
}

// tenants is how many slots lots need.
func tenants(lots []lot) int {
	all := make(map[tenant]bool)
	for _, l := range lots {
		for t := range l.byTenant() {
			all[t] = true
		}
	}
	return len(all)
}

// place chooses the slots of servers among n, the same one for a container in all lots. A server stays where it is. Another one
// gets the slot that is least likely to have connections of its former server, for these would count as the new one's: a
// slot without any, else the one that has been out of service for longest. Taking a slot breaks no connection: established
// ones stay with the address that they were made to.
func place(lots []lot, n int) [][]*deploy.Server {
	var (
		taken    = make([]bool, n)
		home     = make(map[tenant]int)
		homeless []tenant
		servers  = make([]map[tenant]*deploy.Server, len(lots))
	)
	for i := range lots {
		servers[i] = lots[i].byTenant()
		lots[i].running = lots[i].running[:min(n, len(lots[i].running))]
	}
	for i, l := range lots {
		for _, s := range l.servers {
			t := l.tenant(s)
			if _, ok := home[t]; ok || servers[i][t] == nil || slices.Contains(homeless, t) {
				continue
			}
			best, ready := -1, false
			for i, l := range lots {
				if s := servers[i][t]; s != nil && !ready {
					if at := find(l.running, taken, s.Addr); at >= 0 && (best < 0 || l.running[at].ready) {
						best, ready = at, l.running[at].ready
					}
				}
			}
			if best < 0 {
				homeless = append(homeless, t)
				continue
			}
			home[t], taken[best] = best, true
		}
	}
	var free []int
	for i := range taken {
		if !taken[i] {
			free = append(free, i)
		}
	}
	slices.SortStableFunc(free, func(a, b int) int { return compareFree(at(lots, a), at(lots, b)) })
	for i, t := range homeless {
		home[t] = free[i]
	}
	slots := make([][]*deploy.Server, len(lots))
	for i := range lots {
		slots[i] = make([]*deploy.Server, n)
		for t, s := range servers[i] {
			slots[i][home[t]] = s
		}
	}
	return slots
}

// find is the slot that has addr: one in service rather than one that had it before. It is -1 when there is none.
func find(running []slot, taken []bool, addr netip.AddrPort) int {
	found := -1
	for i, s := range running {
		if s.addr == addr && !taken[i] && (found < 0 || s.ready && !running[found].ready) {
			found = i
		}
	}
	return found
}

// at is slot i as lots run with it: in service where it is in one of them, and with the connections of all. One that does not run yet
// is as good as one that was never used.
func at(lots []lot, i int) slot {
	var all slot
	for first, l := true, 0; l < len(lots); l++ {
		if i >= len(lots[l].running) {
			continue
		}
		s := lots[l].running[i]
		if first || s.age < all.age {
			all.age = s.age
		}
		all.ready, all.sessions, first = all.ready || s.ready, all.sessions+s.sessions, false
	}
	return all
}

// compareFree orders slots by how good they are for a new server.
func compareFree(a, b slot) int {
	return cmp.Or(
		deploy.CompareBool(a.ready, b.ready),
		deploy.CompareBool(a.sessions > 0, b.sessions > 0),
		-cmp.Compare(a.age, b.age),
	)
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
			reasons = append(reasons, fmt.Sprintf("new public port %s of %s", p.route.Key, p.route.App))
		case len(running) < len(p.slots):
			reasons = append(reasons, fmt.Sprintf("more servers behind public port %s of %s", p.route.Key, p.route.App))
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
