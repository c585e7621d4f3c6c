package enginetest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
	"dokku-expose/internal/wait"
)

// RunUDP tests what an engine makes of UDP. start is as for [Run].
func RunUDP(t *testing.T, start func(t *testing.T) deploy.Engine) {
	for _, c := range datagrams {
		t.Run("UDP: "+c.name, func(t *testing.T) {
			t.Parallel()
			c.run(&bench{T: t, engine: start(t)})
		})
	}
}

// UDPServer is an app's container for tests that answers each datagram with "NAME " and the datagram.
type UDPServer struct {
	Name string
	Addr netip.AddrPort
	// Received counts its datagrams.
	Received atomic.Int64

	t    testing.TB
	conn *net.UDPConn
	done chan struct{}
}

// NewUDPServer starts one on a free port of 127.0.0.1.
func NewUDPServer(t testing.TB, name string) *UDPServer {
	t.Helper()
	s := &UDPServer{Name: name, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), FreePort(t)), t: t}
	s.Listen()
	t.Cleanup(s.Refuse)
	return s
}

// Listen makes it take datagrams.
func (s *UDPServer) Listen() {
	s.t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(s.Addr))
	if err != nil {
		s.t.Fatal(err)
	}
	s.conn, s.done = conn, make(chan struct{})
	go func() {
		defer close(s.done)
		buffer := make([]byte, 64<<10)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.Received.Add(1)
			answer := append([]byte(s.Name+" "), buffer[:n]...)
			_, _ = conn.WriteToUDPAddrPort(answer[:min(len(answer), largest)], from)
		}
	}()
}

// Refuse closes its socket: datagrams are answered with "port unreachable" then.
func (s *UDPServer) Refuse() {
	_ = s.conn.Close()
	<-s.done
}

// UDPServers are the servers as a table has them.
func UDPServers(servers ...*UDPServer) (list []deploy.Server) {
	for _, s := range servers {
		list = append(list, deploy.Server{Container: s.Name, Dyno: "web.1", Addr: s.Addr, Proven: true})
	}
	return list
}

// UDPRoute is an app's route of UDP with the settings' defaults.
func UDPRoute(t testing.TB, app string, servers ...*UDPServer) deploy.Route {
	t.Helper()
	return route(app, deploy.Key{Proto: deploy.UDP, Port: FreePort(t)}, UDPServers(servers...)...)
}

// UDPClient is a client of a public address: whatever comes from another one it does not see.
type UDPClient struct {
	*net.UDPConn
	t testing.TB
}

// DialUDP is a client of a port of 127.0.0.1, on a port of its own.
func DialUDP(t testing.TB, k deploy.Key) *UDPClient {
	t.Helper()
	return dialUDP(t, netip.Addr{}, netip.AddrPortFrom(loopback, k.Port))
}

// dialUDP is a client at ip, or anywhere.
func dialUDP(t testing.TB, ip netip.Addr, to netip.AddrPort) *UDPClient {
	t.Helper()
	var from *net.UDPAddr
	if ip.IsValid() {
		from = net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
	}
	conn, err := net.DialUDP("udp", from, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &UDPClient{conn, t}
}

// Send sends a datagram, and expects nothing.
func (c *UDPClient) Send(text string) {
	c.t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// Receive waits for a datagram.
func (c *UDPClient) Receive() string {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(wait.Patience)); err != nil {
		c.t.Fatal(err)
	}
	buffer := make([]byte, 64<<10)
	n, err := c.Read(buffer)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(buffer[:n])
}

// Ask sends a datagram and returns who answers it.
func (c *UDPClient) Ask() string {
	c.t.Helper()
	c.Send("?")
	return strings.TrimSuffix(c.Receive(), " ?")
}

// AskUntil asks again and again, as the clients of UDP do, until somebody answers.
func (c *UDPClient) AskUntil(name string) {
	c.t.Helper()
	wait.Until(c.t, name+" answers", func() bool {
		c.Send("?")
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		buffer := make([]byte, 100)
		n, err := c.Read(buffer)
		return err == nil && string(buffer[:n]) == name+" ?"
	})
}

// talk is how often a client asks until its session is no mere question.
const talk = 5

// largest is the longest datagram of UDP over IPv4.
const largest = 65_507

// state is what the engine says of a route's only key.
func (b *bench) state(k deploy.Key) deploy.RouteState {
	b.Helper()
	o, err := b.engine.Observe(b.Context(), deploy.Counters)
	if err != nil {
		b.Fatal(err)
	}
	i := slices.IndexFunc(o.Routes, func(r deploy.RouteState) bool { return r.Key == k })
	if i < 0 {
		b.Fatalf("%s is not served: %+v", k, o.Routes)
	}
	return o.Routes[i]
}

// dropped waits until the engine has dropped so many datagrams for a reason.
func (b *bench) dropped(k deploy.Key, reason string, n uint64) {
	b.Helper()
	wait.Until(b, fmt.Sprintf("%d datagrams are dropped: %s", n, reason), func() bool { return b.state(k).Datagrams.Dropped[reason] == n })
}

var datagrams = []testCase{
	{"answers come from the address that was asked", func(b *bench) {
		v1 := NewUDPServer(b, "v1")
		dns := UDPRoute(b, "dns", v1)
		b.apply(dns)
		for _, ip := range []netip.Addr{loopback, loopback2, loopback6} {
			if ip.Is6() && !listeners.HasIPv6() {
				continue
			}
			c := dialUDP(b, netip.Addr{}, netip.AddrPortFrom(ip, dns.Key.Port))
			if got := c.Ask(); got != "v1" {
				b.Errorf("%s answered at %s", got, ip)
			}
		}
		only := deploy.Key{Proto: deploy.UDP, IP: loopback2, Port: FreePort(b)}
		bound := route("bound", only, UDPServers(v1)...)
		b.apply(dns, bound)
		if got := dialUDP(b, netip.Addr{}, netip.AddrPortFrom(loopback2, only.Port)).Ask(); got != "v1" {
			b.Errorf("%s answered at a bind address", got)
		}
	}},
	{"datagrams of every size go both ways", func(b *bench) {
		dns := UDPRoute(b, "dns", NewUDPServer(b, "v1"))
		b.apply(dns)
		c := DialUDP(b, dns.Key)
		for _, size := range []int{0, 1, 1472, 1473, 9000, largest - 3, largest} {
			text := strings.Repeat("x", size)
			c.Send(text)
			want := ("v1 " + text)[:min(largest, size+3)]
			if got := c.Receive(); got != want {
				b.Errorf("%d bytes were answered with %d, want %d", size, len(got), len(want))
			}
		}
		wait.Until(b, "all answers are counted", func() bool { return b.state(dns.Key).Datagrams.Out == 7 })
		s := b.state(dns.Key)
		if s.Datagrams.In != 7 || s.In != 1+1472+1473+9000+largest-3+largest || s.Total != 1 || s.Connections() != 1 {
			b.Errorf("counted are %+v, %+v", s, s.Datagrams)
		}
	}},
	{"many datagrams at once are all answered, in their order", func(b *bench) {
		v1 := NewUDPServer(b, "v1")
		dns := UDPRoute(b, "dns", v1)
		b.apply(dns)
		clients := []*UDPClient{DialUDP(b, dns.Key), DialUDP(b, dns.Key), DialUDP(b, dns.Key)}
		for i := range 40 {
			for _, c := range clients {
				c.Send(fmt.Sprint(i))
			}
		}
		for _, c := range clients {
			for i := range 40 {
				if got, want := c.Receive(), fmt.Sprintf("v1 %d", i); got != want {
					b.Fatalf("got %q, want %q", got, want)
				}
			}
		}
	}},
	{"a session stays where it is over a switch, a new one goes to the new server", func(b *bench) {
		v1, v2 := NewUDPServer(b, "v1"), NewUDPServer(b, "v2")
		dns := UDPRoute(b, "dns", v1)
		b.apply(dns)
		old := DialUDP(b, dns.Key)
		old.Ask()
		dns.Servers, dns.Former = UDPServers(v2), UDPServers(v1)
		b.switchTo(dns)
		for range 3 {
			if got := old.Ask(); got != "v1" {
				b.Errorf("%s answered a session of v1", got)
			}
			if got := DialUDP(b, dns.Key).Ask(); got != "v2" {
				b.Errorf("%s answered a new session", got)
			}
		}
		if s := b.state(dns.Key); s.Draining() != 1 || len(s.Former()) != 1 {
			b.Errorf("%d sessions are on old servers, want 1: %+v", s.Draining(), s.Servers)
		}
	}},
	{"a session leaves a server that is not vouched for any more, at once", func(b *bench) {
		v1, v2 := NewUDPServer(b, "v1"), NewUDPServer(b, "v2")
		dns := UDPRoute(b, "dns", v1)
		b.apply(dns)
		c := DialUDP(b, dns.Key)
		c.Ask()
		dns.Servers = UDPServers(v2)
		before := v1.Received.Load()
		b.switchTo(dns)
		for range 3 {
			if got := c.Ask(); got != "v2" {
				b.Errorf("%s answered", got)
			}
		}
		// The address is another container's by now, of this app or another one.
		dns.Servers = UDPServers(v1)
		dns.Servers[0].Container = "another"
		dns.Former = UDPServers(v2)
		b.switchTo(dns)
		if got := c.Ask(); got != "v2" {
			b.Errorf("%s answered a session of v2", got)
		}
		if n := v1.Received.Load() - before; n > 0 {
			b.Errorf("%d datagrams went to an address that was not vouched for", n)
		}
	}},
	{"the address of a former server is another container's", func(b *bench) {
		v1, v2 := NewUDPServer(b, "v1"), NewUDPServer(b, "v2")
		dns := UDPRoute(b, "dns", v1)
		b.apply(dns)
		c := DialUDP(b, dns.Key)
		c.Ask()
		dns.Servers, dns.Former = UDPServers(v2), UDPServers(v1)
		dns.Former[0].Container = "another"
		b.switchTo(dns)
		if got := c.Ask(); got != "v2" {
			b.Errorf("%s answered", got)
		}
	}},
	{"a session leaves a server that refuses, old or current", func(b *bench) {
		v1, v2, v3 := NewUDPServer(b, "v1"), NewUDPServer(b, "v2"), NewUDPServer(b, "v3")
		dns := UDPRoute(b, "dns", v1)
		b.apply(dns)
		c := DialUDP(b, dns.Key)
		c.Ask()
		dns.Servers, dns.Former = UDPServers(v2), UDPServers(v1)
		b.switchTo(dns)
		v1.Refuse()
		c.AskUntil("v2")
		dns.Servers, dns.Former = UDPServers(v2, v3), nil
		b.apply(dns)
		v2.Refuse()
		c.AskUntil("v3")
		// It is down until a table proves it.
		v2.Listen()
		v3.Refuse()
		c.Send("lost")
		wait.Until(b, "both are down", func() bool { return len(b.state(dns.Key).Addresses(true)) == 0 })
		c.Send("held")
		wait.Until(b, "it is held", func() bool { return b.state(dns.Key).Held == 1 })
		dns.Servers = UDPServers(v2)
		b.apply(dns)
		if got := c.Receive(); got != "v2 held" {
			b.Errorf("got %q", got)
		}
	}},
	{"first datagrams wait for a server", func(b *bench) {
		v1 := NewUDPServer(b, "v1")
		dns := UDPRoute(b, "dns")
		b.apply(dns)
		c := DialUDP(b, dns.Key)
		for i := range 3 {
			c.Send(fmt.Sprint(i))
		}
		wait.Until(b, "they are held", func() bool { return b.state(dns.Key).Held == 1 })
		dns.Servers = UDPServers(v1)
		b.apply(dns)
		for i := range 3 {
			if got, want := c.Receive(), fmt.Sprintf("v1 %d", i); got != want {
				b.Errorf("got %q, want %q", got, want)
			}
		}
		if s := b.state(dns.Key); s.Held != 0 || s.Connections() != 1 {
			b.Errorf("%d sessions are held, of %d", s.Held, s.Connections())
		}
	}},
	{"datagrams wait few, and not for ever", func(b *bench) {
		dns := UDPRoute(b, "dns")
		dns.Hold = 200 * time.Millisecond
		b.apply(dns)
		c := DialUDP(b, dns.Key)
		for range 20 {
			c.Send("x")
		}
		b.dropped(dns.Key, "no container", 20)
		if s := b.state(dns.Key); s.Held != 0 || s.Connections() != 0 || s.Lost() == 0 {
			b.Errorf("left are %+v", s)
		}
		dns.Hold = 0
		b.apply(dns)
		c.Send("x")
		b.dropped(dns.Key, "no container", 21)
	}},
	{"clients outside of allow are not answered", func(b *bench) {
		v1 := NewUDPServer(b, "v1")
		dns := UDPRoute(b, "dns", v1)
		dns.Options.Allow = deploy.NetworksOf(netip.MustParsePrefix("127.0.0.1/32"))
		b.apply(dns)
		dialUDP(b, loopback2, netip.AddrPortFrom(loopback, dns.Key.Port)).Send("x")
		b.dropped(dns.Key, "allow", 1)
		if got := DialUDP(b, dns.Key).Ask(); got != "v1" || v1.Received.Load() != 1 {
			b.Errorf("%s answered, after %d datagrams", got, v1.Received.Load())
		}
	}},
	{"a source has only so many sessions in a time", func(b *bench) {
		dns := UDPRoute(b, "dns", NewUDPServer(b, "v1"))
		dns.Options.Rate = 3
		b.apply(dns)
		first := DialUDP(b, dns.Key)
		first.Ask()
		DialUDP(b, dns.Key).Ask()
		DialUDP(b, dns.Key).Ask()
		DialUDP(b, dns.Key).Send("x")
		b.dropped(dns.Key, "rate", 1)
		if got := first.Ask(); got != "v1" {
			b.Errorf("%s answered a session that there is", got)
		}
		if got := dialUDP(b, loopback2, netip.AddrPortFrom(loopback, dns.Key.Port)).Ask(); got != "v1" {
			b.Errorf("%s answered another source", got)
		}
	}},
	{"sessions beyond the limit are refused, but for those of clients that only send", func(b *bench) {
		dns := UDPRoute(b, "dns", NewUDPServer(b, "v1"))
		dns.Options.MaxConnections = 2
		b.apply(dns)
		talkers := []*UDPClient{DialUDP(b, dns.Key), DialUDP(b, dns.Key)}
		for range talk {
			talkers[0].Ask()
		}
		talkers[1].Ask()
		// The second one has said nothing since it was answered.
		third := DialUDP(b, dns.Key)
		for range talk {
			if got := third.Ask(); got != "v1" {
				b.Errorf("%s answered", got)
			}
		}
		DialUDP(b, dns.Key).Send("x")
		b.dropped(dns.Key, "sessions", 1)
		talkers[0].Ask()
		if s := b.state(dns.Key); s.Connections() != 2 || s.Total != 3 {
			b.Errorf("%d sessions are there, of %d, want 2 of 3", s.Connections(), s.Total)
		}
	}},
	{"sessions end when they are idle", func(b *bench) {
		dns := UDPRoute(b, "dns", NewUDPServer(b, "v1"))
		dns.Options.IdleTimeout = deploy.MinIdleTimeout
		b.apply(dns)
		c := DialUDP(b, dns.Key)
		c.Ask()
		wait.Until(b, "the session has ended", func() bool { return b.state(dns.Key).Connections() == 0 })
		if got := c.Ask(); got != "v1" {
			b.Errorf("%s answered", got)
		}
		if s := b.state(dns.Key); s.Total != 2 {
			b.Errorf("%d sessions were counted, want 2", s.Total)
		}
	}},
	{"sessions on old servers are cut when their time is up", func(b *bench) {
		v1, v2 := NewUDPServer(b, "v1"), NewUDPServer(b, "v2")
		dns := UDPRoute(b, "dns", v1)
		b.apply(dns)
		c := DialUDP(b, dns.Key)
		c.Ask()
		dns.Servers, dns.Former, dns.CutOld = UDPServers(v2), UDPServers(v1), 50*time.Millisecond
		b.apply(dns)
		c.AskUntil("v2")
	}},
	{"the same port of TCP and UDP", func(b *bench) {
		v1, u1 := NewServer(b, "tcp"), NewUDPServer(b, "udp")
		dns := UDPRoute(b, "dns", u1)
		other := route("other", deploy.Key{Port: dns.Key.Port}, proven(v1)...)
		b.apply(dns, other)
		if tcp, udp := greeted(b, netip.AddrPortFrom(loopback, dns.Key.Port)), DialUDP(b, dns.Key).Ask(); tcp != "tcp" || udp != "udp" {
			b.Errorf("%s answers TCP, %s answers UDP", tcp, udp)
		}
		b.apply(other)
		c := DialUDP(b, dns.Key)
		wait.Until(b, "UDP is closed", func() bool {
			_, err := c.Write([]byte("?"))
			return errors.Is(err, syscall.ECONNREFUSED)
		})
		if got := greeted(b, netip.AddrPortFrom(loopback, dns.Key.Port)); got != "tcp" {
			b.Errorf("%s answers TCP", got)
		}
	}},
	{"the port of UDP is somebody else's", func(b *bench) {
		dns := UDPRoute(b, "dns", NewUDPServer(b, "v1"))
		taken, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(dns.Key.Port)})
		if err != nil {
			b.Fatal(err)
		}
		_, err = b.tryApply(dns)
		if e := b.oneRouteError(err, "dns", dns.Key); !strings.Contains(e.Error(), "ss -lunp") {
			b.Errorf("got %v", e)
		}
		_ = taken.Close()
		b.apply(dns)
		if got := DialUDP(b, dns.Key).Ask(); got != "v1" {
			b.Errorf("%s answered", got)
		}
	}},
	{"the port goes to another app, and no session with it", func(b *bench) {
		v1, v2 := NewUDPServer(b, "v1"), NewUDPServer(b, "v2")
		dns := UDPRoute(b, "dns", v1)
		b.apply(dns)
		c := DialUDP(b, dns.Key)
		c.Ask()
		before := v1.Received.Load()
		b.apply(route("game", dns.Key, UDPServers(v2)...))
		if got := c.Ask(); got != "v2" || v1.Received.Load() != before {
			b.Errorf("%s answered", got)
		}
	}},
}
