package haproxy

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"dokku-expose/deploy"
)

func addr(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 17, 0, 2}), port)
}

func servers(ports ...uint16) []deploy.Server {
	var list []deploy.Server
	for _, port := range ports {
		list = append(list, deploy.Server{Addr: addr(port), Proven: true})
	}
	return list
}

func TestSlotsFor(t *testing.T) {
	for n, want := range map[int]int{0: 4, 1: 4, 2: 4, 3: 8, 4: 8, 5: 16, 8: 16, 9: 32} {
		if got := slotsFor(n); got != want {
			t.Errorf("%d servers: %d slots, want %d", n, got, want)
		}
		if slotsFor(n) < 2*n {
			t.Errorf("%d servers: no room for as many new ones", n)
		}
	}
}

func TestPlace(t *testing.T) {
	ready := func(port uint16) slot { return slot{addr: addr(port), ready: true, up: true} }
	left := func(port uint16, age time.Duration, sessions int) slot {
		return slot{addr: addr(port), age: age, sessions: sessions}
	}
	unused := slot{addr: nowhere, age: time.Hour}
	for _, c := range []struct {
		name    string
		servers []deploy.Server
		running []slot
		want    []uint16 // by slot; 0: free
	}{
		{"nothing runs", servers(1, 2), nil, []uint16{1, 2, 0, 0}},
		{"in place", servers(1), []slot{unused, ready(1), unused, unused}, []uint16{0, 1, 0, 0}},
		{"a new one beside", servers(2), []slot{ready(1), unused, unused, unused}, []uint16{0, 2, 0, 0}},
		{"one stays, one is new", servers(2, 1), []slot{ready(1), ready(3), unused, unused}, []uint16{1, 0, 2, 0}},
		{"back to the former one", servers(1), []slot{left(1, time.Second, 5), ready(2), unused, unused}, []uint16{1, 0, 0, 0}},
		{"in service rather than left", servers(1), []slot{left(1, time.Hour, 0), ready(1), unused, unused}, []uint16{0, 1, 0, 0}},
		{
			"no connections rather than long gone", servers(9),
			[]slot{ready(1), left(2, time.Hour, 1), left(3, time.Second, 0), left(4, time.Hour, 2)}, []uint16{0, 0, 9, 0},
		},
		{
			"longest gone when all have connections", servers(9),
			[]slot{ready(1), left(2, time.Second, 1), left(3, time.Minute, 50), left(4, time.Second, 1)}, []uint16{0, 0, 9, 0},
		},
		{"in service as the last resort", servers(7, 8, 9), []slot{ready(1), left(2, 0, 1), ready(3), left(4, 0, 0)}, []uint16{9, 8, 0, 7}},
		{"two dynos at one address", servers(5, 5), []slot{unused, unused, unused, unused}, []uint16{5, 0, 0, 0}},
		{"nobody", nil, []slot{ready(1), unused, unused, unused}, []uint16{0, 0, 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []uint16
			for _, s := range place([]lot{{c.servers, c.running}}, minSlots)[0] {
				if s == nil {
					got = append(got, 0)
				} else {
					got = append(got, s.Addr.Port())
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestReason(t *testing.T) {
	port := func(n uint16) deploy.Key { return deploy.Key{Port: n} }
	want := func(app string, n uint16, servers ...deploy.Server) proxy {
		l := port(n)
		return proxy{name: proxyName(app, l), route: deploy.Route{App: app, Key: l}, slots: make([]*deploy.Server, slotsFor(len(servers)))}
	}
	live := &snapshot{proxies: map[string][]slot{"mail:25": make([]slot, 4), "mail:143": make([]slot, 4)}}
	for _, c := range []struct {
		name    string
		proxies []proxy
		want    string
	}{
		{"new", []proxy{want("mail", 25), want("mail", 143), want("news", 119)}, "new public port 119 of news"},
		{"closed", []proxy{want("mail", 25)}, "public port 143 of mail closed"},
		{"slots", []proxy{want("mail", 25, servers(1, 2, 3)...), want("mail", 143)}, "more servers behind public port 25 of mail"},
		{"options", []proxy{want("mail", 25), want("mail", 143)}, "settings changed"},
		{
			"many", []proxy{want("a", 1), want("b", 2), want("c", 3), want("mail", 25)},
			"new public port 1 of a, new public port 2 of b, new public port 3 of c, and 1 more changes",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := reason(c.proxies, live); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
