package deploy

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/internal/netns"
)

// appServer is a server whose connections nobody has accepted yet.
type appServer struct {
	*net.TCPListener
	t    *testing.T
	addr netip.AddrPort
}

func listenOn(t *testing.T, address string) appServer {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return appServer{l.(*net.TCPListener), t, l.Addr().(*net.TCPAddr).AddrPort()}
}

// accepts returns how many connections there have been since it was asked last.
func (a appServer) accepts() int {
	a.t.Helper()
	marker, err := net.Dial("tcp", a.addr.String())
	if err != nil {
		a.t.Fatal(err)
	}
	defer marker.Close()
	for n := 0; ; n++ {
		conn, err := a.Accept()
		if err != nil {
			a.t.Fatal(err)
		}
		_ = conn.Close()
		if conn.RemoteAddr().String() == marker.LocalAddr().String() {
			return n
		}
	}
}

// A container does not notice that it is asked, but behind Docker's proxy.
func TestAskingLeavesNoConnection(t *testing.T) {
	app := listenOn(t, "127.0.0.1:0")
	for range 100 {
		for _, failed := range []map[Address]error{
			AcceptAll(t.Context(), []Target{{Addr: app.addr}}), Listening(t.Context(), []Address{{AddrPort: app.addr}}),
		} {
			if len(failed) > 0 {
				t.Fatal(failed)
			}
		}
	}
	if n := app.accepts(); n > 0 {
		t.Errorf("%d connections were accepted", n)
	}
	if failed := AcceptAll(t.Context(), []Target{{Addr: app.addr, Published: true}}); len(failed) > 0 {
		t.Error(failed)
	}
	if n := app.accepts(); n != 1 {
		t.Errorf("%d connections were accepted through Docker's proxy, want 1", n)
	}
}

// Docker's proxy accepts whatever is behind it, and closes when nothing is.
func TestDockersProxyIsNoProof(t *testing.T) {
	proxy := listenOn(t, "127.0.0.1:0")
	go func() {
		for {
			conn, err := proxy.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	if failed := AcceptAll(t.Context(), []Target{{Addr: proxy.addr, Published: true}}); failed[Address{AddrPort: proxy.addr}] == nil {
		t.Error("a port behind which nobody listens is said to accept")
	}
}

// However many servers are silent, one that is well is not taken for another of them: there is time for each.
func TestSilentServersStarveNobody(t *testing.T) {
	silent := fullServer(t, netip.IPv4Unspecified())
	var addrs []Address
	for i := range 2*dialsAtOnce() + 1 {
		addrs = append(addrs, Address{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), silent.Port())})
	}
	well := Address{AddrPort: listenOn(t, "127.0.0.1:0").addr}
	failed := acceptSoon(t.Context(), append(addrs, well))
	if failed[well] != nil || len(failed) != len(addrs) {
		t.Errorf("%d of %d silent servers failed, and of the one that is well it is said: %v", len(failed), len(addrs), failed[well])
	}
}

// An app may listen on one of its container's addresses only, such as on IPv6 alone. What serves already stays.
func TestSecondAddressServes(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("this test needs IPv6: %v", err)
	} else if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	app := listenOn(t, "[::1]:0")
	s := new(scene)
	s.container("mail-1", imageA, "web.1", 1)
	s.containers[0].Direct = append(s.containers[0].Direct, netip.IPv6Loopback())
	a := App{Name: "mail", Current: imageA, Places: []Place{place("web.1", "mail-1")},
		Images: map[string][]Claim{imageA: {claim("mail", 25, app.addr.Port(), "web")}}}
	want := Server{Container: "mail-1", Dyno: "web.1", Addr: app.addr, Proven: true}
	check := func(what string) {
		t.Helper()
		table, problems := plan(t, s.snapshot(a))
		if len(problems) > 0 || len(table.Routes) != 1 || len(table.Routes[0].Servers) != 1 || table.Routes[0].Servers[0] != want {
			t.Errorf("%s: %+v, %v, want %+v", what, table, problems, want)
		}
	}
	check("new")
	s.serves(25, "mail", app.addr.String())
	_ = app.Close()
	want.Proven = false
	check("served, and left to the engine")
}

// plan is a plan for which real servers are asked.
func plan(t *testing.T, s Snapshot) (Table, []*Problem) {
	t.Helper()
	planned, err := probed(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return planned.Table, planned.Problems
}

// A route without checks is nobody's business but its clients': its servers are vouched for by Docker.
func TestServersThatNobodyAsks(t *testing.T) {
	for _, row := range []struct {
		name        string
		options     Options
		healthCheck time.Duration
		open        bool
		// served tells that the server is in the table, connections how often it was connected to.
		served      bool
		connections int
	}{
		{"checks", Options{}, time.Second, true, true, 1},
		{"checks, and nobody listens", Options{}, time.Second, false, false, 0},
		{"no checks while it runs", Options{}, 0, true, true, 0},
		{"no checks at all", Options{Check: NoCheck}, time.Second, true, true, 0},
		{"no checks at all, and nobody listens", Options{Check: NoCheck}, time.Second, false, true, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			app := listenOn(t, "127.0.0.1:0")
			if !row.open {
				_ = app.Close()
			}
			// Behind Docker's proxy a proof is a connection, which can be counted.
			containers := []Endpoint{{ID: "mail-1", App: "mail", Image: imageA, Running: true, Published: map[PrivatePort]netip.AddrPort{{Port: 15025}: app.addr}}}
			a := mail(place("web.1", "mail-1"))
			a.Options, a.HealthCheck = row.options, row.healthCheck
			table, problems := plan(t, Snapshot{Apps: []App{a}, Sources: told(containers...)})
			r := table.Routes[0]
			if served := len(r.Servers) == 1 && r.Servers[0].Proven; served != row.served || (len(problems) == 0) != row.served {
				t.Errorf("the route is %+v, with %v", r, problems)
			}
			if r.Options.Check == NoCheck && r.HealthCheck != 0 {
				t.Errorf("the engine is to check every %v", r.HealthCheck)
			}
			if row.open {
				if n := app.accepts(); n != row.connections {
					t.Errorf("%d connections were made, want %d", n, row.connections)
				}
			}
		})
	}
}

// A server whose queue of new connections is full does not answer, as one that is gone; its container does.
func TestBusyServerIsTold(t *testing.T) {
	addr := Address{AddrPort: fullServer(t, netip.AddrFrom4([4]byte{127, 0, 0, 2}))}
	failed := acceptSoon(t.Context(), []Address{addr})
	if err := failed[addr]; err == nil || errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("connecting to %s gives %v, want no answer", addr, err)
	}
	gone := Address{AddrPort: netip.MustParseAddrPort("224.0.0.1:25")} // a group, so no host ever answers
	if got := there(t.Context(), []Address{addr, gone}); !got[addr] || got[gone] {
		t.Errorf("there are %v, want %s alone", got, addr)
	}
}

// fullServer accepts nothing, and has no room for another connection. It is at 127.0.0.2, and at all others where ip is every address.
func fullServer(t *testing.T, ip netip.Addr) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: ip.As4()}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 2}), uint16(name.(*unix.SockaddrInet4).Port))
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return addr
}

// A server that the engine leads to stays in the table when this host lacks the ports to ask it: HAProxy may take it for down for the
// same lack. One that the engine does not know yet can't be proven.
func TestLackOfTheHostTakesNoServerAway(t *testing.T) {
	if !netns.Alone(t, 1) {
		return
	}
	app := listenOn(t, "127.0.0.1:5025")
	conn, err := net.Dial("tcp", app.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	listen := Key{Port: 25}
	containers := []Endpoint{{ID: "one", App: "mail", Process: "web", Dyno: "web.1", Running: true, Image: "image", Direct: []netip.Addr{app.addr.Addr()}}}
	apps := []App{{
		Name: "mail", Current: "image", Upstream: UpstreamDirect, HealthCheck: time.Second,
		Places: []Place{{Process: "web", Dyno: "web.1", Container: "one"}},
		Images: map[string][]Claim{"image": {{App: "mail", Key: listen, Private: app.addr.Port(), Process: "web"}}},
	}}
	for _, row := range []struct {
		name    string
		service RouteState
		servers int
		problem error
	}{
		{"down", RouteState{App: "mail", Servers: down(app.addr)}, 1, ErrHostLack},
		{"new", RouteState{App: "mail"}, 0, ErrNotAccepting},
	} {
		table, problems := plan(t, Snapshot{Apps: apps, Sources: told(containers...), Serving: map[Key]RouteState{listen: row.service}})
		if len(table.Routes) != 1 || len(table.Routes[0].Servers) != row.servers {
			t.Errorf("%s: the table is %+v, want %d servers", row.name, table, row.servers)
		}
		if len(problems) != 1 || !errors.Is(problems[0], row.problem) {
			t.Errorf("%s: got %v, want %v", row.name, problems, row.problem)
		}
	}
}
