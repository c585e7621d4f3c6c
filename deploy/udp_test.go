package deploy

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
)

var (
	udpKey  = Key{Proto: UDP, Port: 53}
	udpWeb1 = netip.MustParseAddrPort("127.9.0.1:15053")
	udpWeb2 = netip.MustParseAddrPort("127.9.0.2:15053")
)

// dns is an app with a port of UDP, which image A asks for.
func dns(places ...Place) App {
	return App{Name: "dns", Current: imageA, Places: places, Images: map[string][]Claim{
		imageA: {{App: "dns", Key: udpKey, Private: 15053, Process: "web", File: "PORTS", Line: 1}},
	}}
}

// servesUDP has the engine send what is new to the first address, and sessions to the others.
func (s *scene) servesUDP(current netip.AddrPort, former ...netip.AddrPort) {
	servers := up(current)
	for _, addr := range former {
		servers = append(servers, ServerState{Addr: addr, Old: true})
	}
	s.serving = map[Key]RouteState{udpKey: {App: "dns", Key: udpKey, Listening: true, Servers: servers}}
}

// Sessions stay on those servers that the app's source vouches for, and on no other one.
func TestFormerServersOfUDP(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(s *scene)
		trust  Trust
		want   string
		// first tells that something has to go before anything else.
		first bool
	}{
		{"a deploy", func(s *scene) { s.servesUDP(udpWeb1) }, Fresh, "53/udp dns: web.1=dns-2@15053 (web.1=dns-1@15053)", false},
		{"after the deploy", func(s *scene) { s.servesUDP(udpWeb2, udpWeb1) }, Fresh, "53/udp dns: web.1=dns-2@15053? (web.1=dns-1@15053)", false},
		{"the former one has ended", func(s *scene) { s.servesUDP(udpWeb2, udpWeb1); s.stop("dns-1") }, Fresh, "53/udp dns: web.1=dns-2@15053?", true},
		{"its address is another app's", func(s *scene) { s.servesUDP(udpWeb2, udpWeb1); s.containers[0].App = "other" }, Fresh, "53/udp dns: web.1=dns-2@15053?", true},
		{"its address is nobody's", func(s *scene) { s.servesUDP(udpWeb2, udpWeb1); s.containers = s.containers[1:] }, Fresh, "53/udp dns: web.1=dns-2@15053?", true},
		{"nobody has sessions any more", func(s *scene) { s.servesUDP(udpWeb2) }, Fresh, "53/udp dns: web.1=dns-2@15053?", false},
		{"stale: what is told still stays", func(s *scene) { s.servesUDP(udpWeb2, udpWeb1) }, Stale, "53/udp dns: web.1=dns-2@15053? (web.1=dns-1@15053)", false},
		{"stale: what is not told goes", func(s *scene) { s.servesUDP(udpWeb2, udpWeb1); s.containers = s.containers[1:] }, Stale, "53/udp dns: web.1=dns-2@15053?", true},
		{"none: all stays as it is", func(s *scene) { s.servesUDP(udpWeb2, udpWeb1); s.containers = nil }, None, "53/udp dns: =@15053? (=@15053)", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := new(scene)
			s.container("dns-1", imageA, "web.1", 1, 15053)
			s.container("dns-2", imageA, "web.1", 2, 15053)
			tt.before(s)
			snap := s.snapshot(dns(place("web.1", "dns-2")))
			snap.Sources[""] = Listing{snap.Sources[""].Endpoints, tt.trust}
			table, _ := s.planned(snap)
			if got := lines(table); !slices.Equal(got, []string{tt.want}) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			first := First(snap)
			if (first != nil) != tt.first {
				t.Errorf("before anything else goes %+v, want something: %t", first, tt.first)
			}
			if first != nil && len(first.Routes[0].Former) > 0 {
				t.Errorf("it keeps %+v", first.Routes[0].Former)
			}
		})
	}
}

// A server that has died, or is known to be gone, keeps no session.
func TestReduceOfUDP(t *testing.T) {
	for name, loss := range map[string]Loss{
		"died": {Died: []string{"dns-1"}}, "gone": {Gone: []Address{{UDP, udpWeb1}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := new(scene)
			s.container("dns-1", imageA, "web.1", 1, 15053)
			s.container("dns-2", imageA, "web.1", 2, 15053)
			s.servesUDP(udpWeb2, udpWeb1)
			snap := s.snapshot(dns(place("web.1", "dns-2")))
			reduced := Reduce(snap.doubted(), loss)
			if reduced == nil {
				t.Fatal("nothing is to change")
			}
			if got := lines(*reduced); !slices.Equal(got, []string{"53/udp dns: web.1=dns-2@15053?"}) {
				t.Errorf("got %q", got)
			}
			if Reduce(snap.doubted(), Loss{Gone: []Address{{TCP, udpWeb1}}}) != nil {
				t.Error("the same port of TCP counts")
			}
		})
	}
}

// A container that has died loses its sessions at once, also where the daemon does not know yet which ones there are by now: its address may
// be another one's in a moment.
func TestReduceOfUDPThatIsOutOfDate(t *testing.T) {
	s := new(scene)
	s.container("dns-1", imageA, "web.1", 1, 15053)
	s.servesUDP(udpWeb2, udpWeb1)
	state := s.serving[udpKey]
	state.Servers[0].Container, state.Servers[1].Container = "dns-2", "dns-1"
	snap := s.snapshot(dns(place("web.1", "dns-1"))).doubted()
	reduced := Reduce(snap, Loss{Died: []string{"dns-1"}})
	if reduced == nil {
		t.Fatal("nothing is to change")
	}
	if got := lines(*reduced); !slices.Equal(got, []string{"53/udp dns: =@15053?"}) || reduced.Routes[0].Servers[0].Addr != udpWeb2 {
		t.Errorf("got %q", got)
	}
	if Reduce(snap, Loss{Died: []string{"dns-3"}}) != nil {
		t.Error("one that serves nothing counts")
	}
}

// Evidence of 15053/tcp says nothing of 15053/udp.
func TestEvidenceIsOfOneProtocol(t *testing.T) {
	s := new(scene)
	s.container("dns-1", imageA, "web.1", 1)
	a := dns(place("web.1", "dns-1"))
	tcp := a.Images[imageA][0]
	tcp.Key.Proto = TCP
	a.Images[imageA] = append(a.Images[imageA], tcp)
	ev := Evidence{{TCP, udpWeb1}: nil, {UDP, udpWeb1}: syscall.ECONNREFUSED}
	p := Plan(s.snapshot(a), ev)
	if got := lines(p.Table); !slices.Equal(got, []string{"53 dns: web.1=dns-1@15053", "53/udp dns:"}) || len(p.Ask) > 0 {
		t.Errorf("got %q, and asks for %v", got, p.Ask)
	}
}

// Settings of TCP alone leave UDP as it is.
func TestSettingsOfTCPLeaveUDPAlone(t *testing.T) {
	set := options(t, "tls=terminate proxy-protocol=v2 accept-proxy=10.0.0.1 rate=5/10s")
	c := Claim{App: "dns", Key: udpKey}
	if got := c.options(set).String(); got != "rate=5/10s" {
		t.Errorf("the route gets %q", got)
	}
}

// Refused is closed, silence is open, and a network that is not there is neither.
func TestProbeOfUDP(t *testing.T) {
	silent, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	addr := silent.LocalAddr().(*net.UDPAddr).AddrPort()
	open := Target{Proto: UDP, Addr: addr}
	nowhere := Target{Proto: UDP, Addr: netip.MustParseAddrPort("224.0.0.1:53")}
	failed := AcceptAll(t.Context(), []Target{open, nowhere})
	if failed[open.Address()] != nil || failed[nowhere.Address()] == nil {
		t.Errorf("got %v", failed)
	}
	_ = silent.Close()
	if err := AcceptAll(t.Context(), []Target{open})[open.Address()]; !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed port gives %v", err)
	}
}
