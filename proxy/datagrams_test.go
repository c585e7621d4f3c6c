package proxy

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/proxytest"
)

// All sessions go to the successor, each with its container, and no datagram is lost meanwhile.
func TestHandOverOfSessions(t *testing.T) {
	v1, v2 := enginetest.NewUDPServer(t, "v1"), enginetest.NewUDPServer(t, "v2")
	dns := enginetest.UDPRoute(t, "dns", v1)
	s := newServer(t)
	proxytest.Apply(t, s, dns)
	old := enginetest.DialUDP(t, dns.Key)
	old.Ask()
	dns.Servers, dns.Former = enginetest.UDPServers(v2), enginetest.UDPServers(v1)
	proxytest.Apply(t, s, dns)
	current := enginetest.DialUDP(t, dns.Key)
	current.Ask()

	mine := errors.New("mine")
	if err := s.HandOver(func(deploy.Table, []syscall.Conn, []Flow) error { current.Send("?"); return mine }); !errors.Is(err, mine) {
		t.Fatal(err)
	}
	if got := current.Receive(); got != "v2 ?" {
		t.Errorf("after a handover that failed: %q", got)
	}

	var stop atomic.Bool
	done := make(chan int)
	go func() {
		asked := 0
		c := enginetest.DialUDP(t, dns.Key)
		for ; !stop.Load(); asked++ {
			if got := c.Ask(); got != "v2" {
				t.Errorf("%s answered", got)
			}
		}
		done <- asked
	}()
	before := v2.Received.Load()
	for range 5 {
		successor := newServer(t)
		err := s.HandOver(func(table deploy.Table, sockets []syscall.Conn, flows []Flow) error {
			// These are for the successor.
			old.Send("?")
			current.Send("?")
			for _, f := range flows {
				sockets = append(sockets, f)
			}
			return successor.TakeOver(table, flows, filesOf(t, sockets...))
		})
		if err != nil {
			t.Fatal(err)
		}
		s = successor
		if one, two := old.Receive(), current.Receive(); one != "v1 ?" || two != "v2 ?" {
			t.Errorf("sessions of v1 and v2 are answered with %q and %q", one, two)
		}
		wait.Until(t, "others are answered", func() bool { return v2.Received.Load() > before+10 })
		before = v2.Received.Load()
		route := proxytest.Observe(t, s).Routes[0]
		if route.Connections() != 3 || route.Draining() != 1 || *route.Drained != 0 {
			t.Errorf("%d sessions, %d on old servers, want 3 and 1", route.Connections(), route.Draining())
		}
	}
	stop.Store(true)
	if n := <-done; int64(n) > v2.Received.Load() {
		t.Errorf("%d of %d were received", v2.Received.Load(), n)
	}
	// The successor goes by its own tables.
	dns.Former = nil
	proxytest.Apply(t, s, dns)
	if got := old.Ask(); got != "v2" {
		t.Errorf("%s answered", got)
	}
}

// A flow that the table does not vouch for, or whose socket leads elsewhere, is not taken over.
func TestHandOverRefusesFlows(t *testing.T) {
	v1, v2 := enginetest.NewUDPServer(t, "v1"), enginetest.NewUDPServer(t, "v2")
	dns := enginetest.UDPRoute(t, "dns", v1)
	for _, row := range []struct {
		name   string
		change func(*Flow)
	}{
		{"another container's address", func(f *Flow) { f.Server.Container = "another" }},
		{"an address of nobody", func(f *Flow) { f.Server.Addr = v2.Addr }},
		{"no such route", func(f *Flow) { f.Route = 1 }},
		{"a route before the first", func(f *Flow) { f.Route = -1 }},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, successor := newServer(t), newServer(t)
			proxytest.Apply(t, s, dns)
			c := enginetest.DialUDP(t, dns.Key)
			c.Ask()
			err := s.HandOver(func(table deploy.Table, sockets []syscall.Conn, flows []Flow) error {
				row.change(&flows[0])
				return successor.TakeOver(table, flows, filesOf(t, append(sockets, flows[0])...))
			})
			if err != nil {
				t.Fatal(err)
			}
			if n := proxytest.Observe(t, successor).Connections(); n != 0 {
				t.Errorf("%d sessions were taken over", n)
			}
			if got := c.Ask(); got != "v1" {
				t.Errorf("%s answered", got)
			}
			if closed := proxytest.Observe(t, s).Connections(); closed != 0 {
				t.Errorf("the one before has %d sessions still", closed)
			}
		})
	}
}

// A handover of which one socket is none of UDP is given back whole: each socket that was opened is closed, and nothing else with it.
func TestTakeOverRefusesOtherSockets(t *testing.T) {
	v1 := enginetest.NewUDPServer(t, "v1")
	dns := enginetest.UDPRoute(t, "dns", v1)
	other := enginetest.UDPRoute(t, "other", v1)
	s := newServer(t)
	proxytest.Apply(t, s, dns)
	stream, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for range runtime.GOMAXPROCS(0) + 1 { // each loop has its turn
		err = s.HandOver(func(table deploy.Table, sockets []syscall.Conn, _ []Flow) error {
			table.Routes = append(table.Routes, other)
			return newServer(t).TakeOver(table, nil, filesOf(t, append(sockets, stream)...))
		})
		if err == nil || !strings.Contains(err.Error(), "none of UDP") || errors.Is(err, syscall.ENOENT) {
			t.Fatalf("got %v", err)
		}
	}
	if got := enginetest.DialUDP(t, dns.Key).Ask(); got != "v1" {
		t.Errorf("%s answered", got)
	}
	proxytest.Apply(t, s, dns, other)
	if got := enginetest.DialUDP(t, other.Key).Ask(); got != "v1" {
		t.Errorf("%s answered at the other port", got)
	}
}

// Sources that only send take nothing from those that talk, of this port or another one, and no source takes all.
func TestFloodOfSessions(t *testing.T) {
	v1 := enginetest.NewUDPServer(t, "v1")
	flooded, other := enginetest.UDPRoute(t, "flooded", v1), enginetest.UDPRoute(t, "other", v1)
	s := newServer(t)
	s.flows.max = 40
	proxytest.Apply(t, s, flooded, other)
	talker := enginetest.DialUDP(t, flooded.Key)
	for range 5 {
		talker.Ask()
	}
	state := func(k deploy.Key) deploy.RouteState {
		routes := proxytest.Observe(t, s).Routes
		return routes[slices.IndexFunc(routes, func(r deploy.RouteState) bool { return r.Key == k })]
	}
	most := 0
	for i := range 400 {
		// Each source has a number of ports.
		from := &net.UDPAddr{IP: net.IPv4(127, 1, byte(i/10), 1)}
		conn, err := net.DialUDP("udp4", from, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), flooded.Key.Port)))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("x"))
		_ = conn.Close()
		most = max(most, state(flooded.Key).Connections())
	}
	wait.Until(t, "all datagrams are counted", func() bool {
		d := state(flooded.Key).Datagrams
		return d.In+d.Dropped["sessions"] == 405
	})
	if n := state(flooded.Key).Connections(); n > 32 || most < 20 {
		t.Errorf("the flooded port has %d of 40 sessions, at most %d, want all but a fifth", n, most)
	}
	if got := talker.Ask(); got != "v1" || state(flooded.Key).Datagrams.Dropped["sessions"] != 0 {
		t.Errorf("%s answered", got)
	}
	if got := enginetest.DialUDP(t, other.Key).Ask(); got != "v1" {
		t.Errorf("%s answered at the other port", got)
	}
	// Sessions that talk don't make room, and one source has at most half of all.
	for range 40 {
		enginetest.DialUDP(t, other.Key).Send("?")
	}
	wait.Until(t, "the source has all that it may have", func() bool {
		d := state(other.Key).Datagrams
		return d.In+d.Dropped["sessions"] == 41
	})
	if n := state(other.Key).Connections(); n > 20 {
		t.Errorf("one source has %d of 40 sessions", n)
	}
}
