package enginetest

import (
	"net/netip"
	"slices"

	"dokku-expose/deploy"
)

// bySource is about the ports of one process type, which belong together: FTP's control and data, Postgres' cancel requests.
var bySource = []testCase{
	{"by source, the same container on all ports of a process type", func(b *bench) {
		g := newGroup(b)
		control, data, other := b.port(), b.port(), b.port()
		b.apply(g.route(control, "one", "two", "three"))
		// Deploys leave their containers in places that a port which is added later does not have.
		for _, names := range [][]string{{"four", "five", "six"}, {"six", "seven", "eight"}} {
			b.switchTo(g.route(control, names...))
		}
		all := []string{"eight", "seven", "six"}
		b.apply(g.route(control, all...), g.route(data, all...))
		g.agree(control, data)

		g.restart("seven")
		b.switchTo(g.route(control, all...), g.route(data, all...))
		g.agree(control, data)

		// On one of the ports a container does not accept yet, and when it does, another one has been added.
		b.switchTo(g.route(control, all...), g.route(data, "eight", "six"))
		g.agreeBut("seven", control, data)
		more := append(slices.Clone(all), "nine")
		b.apply(g.route(control, more...), g.route(data, "six", "eight", "nine"))
		g.agreeBut("seven", control, data)
		b.switchTo(g.route(control, more...), g.route(data, more...))
		g.agree(control, data)

		b.apply(g.route(control, more...), g.route(data, more...), g.route(other, more...))
		g.agree(control, data, other)
		b.apply(g.route(data, more...), g.route(other, more...))
		g.agree(data, other)
	}},
	{"by source, a container that is down on one port", func(b *bench) {
		g := newGroup(b)
		control, data := b.port(), b.port()
		names := []string{"one", "two", "three"}
		b.apply(g.route(control, names...), g.route(data, names...))
		before := g.agree(control, data)
		g.server(data, "two").Refuse()
		g.agreeBut("two", control, data)
		if after := g.chosen(control); !slices.Equal(after, before) {
			b.Errorf("on the port where all are up the choice was %v, and is %v", before, after)
		}
	}},
	{"by source, after ports did not go by it", func(b *bench) {
		g := newGroup(b)
		control, data := b.port(), b.port()
		plain := func(listen deploy.Key, names ...string) deploy.Route {
			r := g.route(listen, names...)
			r.Options.Balance = ""
			return r
		}
		names := []string{"one", "two", "three"}
		b.apply(plain(control, names...), plain(data, "three", "one"))
		b.apply(plain(control, names...), plain(data, "two", "one", "three"))
		b.apply(g.route(control, names...), g.route(data, names...))
		g.agree(control, data)
	}},
}

// group are containers of one process type that listen on several ports.
type group struct {
	b       *bench
	servers map[deploy.Key]map[string]*Server
	sources []netip.Addr
}

func newGroup(b *bench) *group {
	g := &group{b: b, servers: make(map[deploy.Key]map[string]*Server)}
	for i := range 30 {
		g.sources = append(g.sources, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}))
	}
	return g
}

// server is what a container has for a public port.
func (g *group) server(listen deploy.Key, name string) *Server {
	g.b.Helper()
	if g.servers[listen] == nil {
		g.servers[listen] = make(map[string]*Server)
	}
	if g.servers[listen][name] == nil {
		g.servers[listen][name] = NewServer(g.b, name)
	}
	return g.servers[listen][name]
}

// restart gives a container other addresses.
func (g *group) restart(name string) {
	g.b.Helper()
	for _, servers := range g.servers {
		if s := servers[name]; s != nil {
			s.Refuse()
			servers[name] = NewServer(g.b, name)
		}
	}
}

func (g *group) route(listen deploy.Key, names ...string) deploy.Route {
	g.b.Helper()
	var servers []*Server
	for _, name := range names {
		servers = append(servers, g.server(listen, name))
	}
	return with(g.b, route("ftp", listen, proven(servers...)...), "balance=source")
}

// chosen are the containers that answer each source.
func (g *group) chosen(listen deploy.Key) []string {
	g.b.Helper()
	var names []string
	for _, from := range g.sources {
		c := dialFrom(g.b, from, listen)
		names = append(names, c.greeting())
		_ = c.conn.Close()
	}
	return names
}

// agree wants each source to get the same container on all ports, and not all sources the same.
func (g *group) agree(listens ...deploy.Key) []string {
	g.b.Helper()
	return g.agreeBut("", listens...)
}

// agreeBut leaves out those sources that get a certain container on the first port.
func (g *group) agreeBut(but string, listens ...deploy.Key) []string {
	g.b.Helper()
	first, others := g.chosen(listens[0]), make(map[string]bool)
	for _, listen := range listens[1:] {
		for i, name := range g.chosen(listen) {
			if first[i] != but && name != first[i] {
				g.b.Errorf("%s gets %s on port %s and %s on port %s", g.sources[i], first[i], listens[0], name, listen)
			}
			others[name] = true
		}
	}
	if len(others) < 2 {
		g.b.Errorf("%v is everybody's", others)
	}
	if g.b.Failed() {
		g.b.FailNow()
	}
	return first
}
