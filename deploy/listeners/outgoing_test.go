package listeners

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"dokku-expose/deploy"
)

// limit has the kernel give these ports only to outgoing connections of the namespace.
func limit(t *testing.T, first, last int, reserved string) {
	t.Helper()
	for file, text := range map[string]string{rangeFile: fmt.Sprintf("%d %d", first, last), reservedFile: reserved} {
		if err := os.WriteFile(file, []byte(text+"\n"), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// dial connects from a port, 0 for any.
func dial(t *testing.T, to net.Addr, from int) net.Conn {
	t.Helper()
	local := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(from))
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(local)}
	if to.Network() == "udp" {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(local)
	}
	conn, err := dialer.Dial(to.Network(), to.String())
	if err != nil {
		t.Error(err)
		return nil
	}
	return conn
}

// What is told of a port that an outgoing connection has is enough to get it back.
func TestOccupied(t *testing.T) {
	isolated(t, func() {
		limit(t, 40000, 40009, "8080,9000-9001")
		for _, row := range []struct {
			kind    kind
			command string
		}{
			{v4Loopback.over(deploy.UDP), "ss -unp 'sport = :40003'"},
			// The last one: its port stays taken.
			{v4Loopback, "ss -tnp 'sport = :40003'"},
		} {
			proto := row.kind.proto()
			server, err := row.kind.bind(50000)
			if err != nil {
				t.Error(err)
				return
			}
			defer server.Close()
			taken := deploy.Frontend{Proto: proto, Port: 40003}
			if err := TryBind(taken); err != nil {
				t.Errorf("%s, a free port: %v", row.kind, err)
			}
			conn := dial(t, server.Addr(), 40003)
			if conn == nil {
				return
			}
			defer conn.Close()
			for _, source := range sources {
				sockets, err := source.list(proto, connected)
				if err != nil || !slices.ContainsFunc(sockets, func(s socket) bool {
					return s.local.String() == "127.0.0.1:40003" && s.remote.String() == server.Addr().String()
				}) {
					t.Errorf("%s, %s: %v, %v", source.name, row.kind, sockets, err)
				}
			}
			if err := TryBind(taken); err != ErrInUse {
				t.Errorf("%s, a taken port: %v", row.kind, err)
			}
			text := fmt.Sprint(InUse(taken))
			for _, want := range []string{
				fmt.Sprintf("(pid %d) to %s has it as its local port", os.Getpid(), server.Addr()),
				"use another public port", row.command, "sysctl -w net.ipv4.ip_local_reserved_ports=8080,9000-9001,40003 ",
			} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is missing in: %s", want, text)
				}
			}
			for _, free := range []deploy.Frontend{
				{Proto: proto, Port: 40004}, {Proto: proto, IP: netip.MustParseAddr("127.0.0.2"), Port: 40003}, {Proto: proto ^ deploy.UDP, Port: 40003},
			} {
				if err := occupied(free); err != nil {
					t.Errorf("%s beside %s: %v", free, taken, err)
				}
				if err := TryBind(free); err != nil {
					t.Errorf("%s beside %s: %v", free, taken, err)
				}
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			if proto == deploy.UDP {
				if err := cmp.Or(TryBind(taken), occupied(taken)); err != nil {
					t.Errorf("%s that nobody has any more: %v", taken, err)
				}
				continue
			}
			// The one that closes first keeps the port.
			accepted, err := server.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = accepted.Read(make([]byte, 1))
			_ = accepted.Close()
			if err := TryBind(taken); err != ErrInUse {
				t.Errorf("a port in TIME_WAIT: %v", err)
			}
			if text := fmt.Sprint(occupied(taken)); !strings.Contains(text, "which has ended") || !strings.Contains(text, "ip_local_reserved_ports=8080,9000-9001,40003 ") {
				t.Error(text)
			}
		}
	})
}

func TestUnreserved(t *testing.T) {
	isolated(t, func() {
		limit(t, 40000, 40009, "40002-40003,40007")
		which, remedy, err := Unreserved([]uint16{25, 40001, 40000, 40002, 40007, 40005, 40010})
		if err != nil || which != "40000-40001,40005" || !strings.Contains(remedy, "ip_local_reserved_ports=40002-40003,40007,40000-40001,40005 ") {
			t.Errorf("%q, %q, %v", which, remedy, err)
		}
		if which, remedy, err := Unreserved([]uint16{25, 40002}); which != "" || remedy != "" || err != nil {
			t.Errorf("%q, %q, %v", which, remedy, err)
		}
	})
}

// Ports that connections have, open ones or ended, and ports that no connection gets are told apart.
func TestLocalPorts(t *testing.T) {
	isolated(t, func() {
		limit(t, 40000, 40009, "40009")
		var servers [2]net.Listener
		for i := range servers {
			var err error
			if servers[i], err = v4Loopback.bind(uint16(50000 + i)); err != nil {
				t.Error(err)
				return
			}
			defer servers[i].Close()
		}
		listening, err := v4All.bind(40001)
		if err != nil {
			t.Error(err)
			return
		}
		defer listening.Close()
		busy, idle := netip.MustParseAddrPort(servers[0].Addr().String()), netip.MustParseAddrPort(servers[1].Addr().String())
		use := func() map[netip.AddrPort]Use {
			got, err := LocalPorts([]netip.AddrPort{busy, idle})
			if err != nil {
				t.Error(err)
			}
			return got
		}
		var conns []net.Conn
		for range 8 {
			conn := dial(t, servers[0].Addr(), 0)
			if conn == nil {
				return
			}
			defer conn.Close()
			conns = append(conns, conn)
		}
		if got := use(); got[busy] != (Use{All: 8, Open: 8, Reused: true}) || got[idle] != (Use{All: 8, Reused: true}) {
			t.Errorf("with eight connections: %+v", got)
		}
		if got := use()[busy]; !got.Out() || !got.Short() {
			t.Errorf("%+v is not out of ports", got)
		}
		if _, err := net.Dial("tcp4", servers[0].Addr().String()); err == nil {
			t.Error("there is a port left")
		}
		for _, conn := range conns[:6] {
			accepted, err := servers[0].Accept()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
			_, _ = accepted.Read(make([]byte, 1))
			_ = accepted.Close()
		}
		for _, row := range []struct {
			reuse      string
			want       Use
			out, short bool
		}{
			{"2", Use{All: 8, Open: 2, TimeWait: 6, Reused: true}, false, false},
			{"0", Use{All: 8, Open: 2, TimeWait: 6}, true, true},
		} {
			if err := os.WriteFile("/proc/sys/net/ipv4/tcp_tw_reuse", []byte(row.reuse), 0o644); err != nil {
				t.Error(err)
			}
			if got := use()[busy]; got != row.want || got.Out() != row.out || got.Short() != row.short {
				t.Errorf("with tcp_tw_reuse=%s: %+v, out %v, short %v", row.reuse, got, got.Out(), got.Short())
			}
		}
	})
}

// A connection counts at its remote address until it has ended.
func TestConnections(t *testing.T) {
	isolated(t, func() {
		server, err := v4Loopback.bind(0)
		if err != nil {
			t.Error(err)
			return
		}
		defer server.Close()
		to := server.Addr().(*net.TCPAddr).AddrPort()
		addrs := map[netip.AddrPort]bool{to: true}
		want := func(when string, want int) {
			if n, err := Connections(addrs); n != want || err != nil {
				t.Errorf("%s: %d, %v, want %d", when, n, err, want)
			}
		}
		want("before", 0)
		var conns []net.Conn
		for range 2 {
			conn := dial(t, server.Addr(), 0)
			if conn == nil {
				return
			}
			defer conn.Close()
			conns = append(conns, conn)
		}
		want("two connections", 2)
		if err := conns[0].Close(); err != nil {
			t.Error(err)
		}
		want("one of them has ended", 1)
	})
}
