package enginetest

import (
	"fmt"
	"net/netip"

	"dokku-expose/deploy"
)

// growing is about many routes, and many tables.
var growing = []testCase{
	{"a thousand routes", func(b *bench) {
		const size = 1000
		v1, v2 := NewServer(b, "v1"), NewServer(b, "v2")
		table := many(b, size, v1)
		last := &table[size-1]
		b.apply(table...)
		serving := make(map[deploy.Key]service)
		for _, r := range table {
			serving[r.Key] = service{App: r.App, Servers: []netip.AddrPort{v1.Addr}}
		}
		b.serving(serving)
		for i := 0; i < size; i += 50 {
			if got := greeted(b, local(table[i].Key)); got != "v1" {
				b.Errorf("%s answered at %s", got, table[i].Key)
			}
		}
		l := b.load(last.Key)
		l.Mark("v1")
		b.await(l)
		last.Servers = proven(v2)
		b.switchTo(table...)
		l.Mark("v2")
		b.await(l)
		b.apply(table[size/2:]...)
		refused(b, local(table[0].Key))
		b.await(l)
		b.judge(l)
	}},
	{"a thousand tables", func(b *bench) {
		const tables, every = 1000, 100
		v1, v2 := NewServer(b, "v1"), NewServer(b, "v2")
		table := many(b, 10, v1)
		moving, others := &table[0], len(table)-2
		b.apply(table...)
		l := b.load(moving.Key)
		for i := range tables {
			version := v1
			if i%2 == 0 {
				version = v2
			}
			moving.Servers = proven(version)
			if i%every > 0 {
				b.switchTo(table...)
				continue
			}
			// Some others come and go.
			b.apply(table[:others:others]...)
			b.await(l)
			b.apply(table...)
		}
		b.judge(l)
	}},
}

// many are routes of as many apps to s. Each has an address of its own, so that a few free ports are enough.
func many(b *bench, n int, s *Server) []deploy.Route {
	b.Helper()
	var (
		ports  [10]uint16
		routes []deploy.Route
	)
	for i := range ports {
		ports[i] = FreePort(b)
	}
	for i := range n {
		listen := deploy.Key{IP: netip.AddrFrom4([4]byte{127, 7, byte(i >> 8), byte(i)}), Port: ports[i%len(ports)]}
		routes = append(routes, route(fmt.Sprintf("app%04d", i), listen, proven(s)...))
	}
	return routes
}
