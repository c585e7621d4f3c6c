package netns_test

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/internal/need"
	"dokku-expose/internal/netns"
)

const patience = time.Minute

// Clients come from addresses of their own, over a network with Ethernet's MTU, and the connections of a Host that is closed break.
func TestClientsAreElsewhere(t *testing.T) {
	need.Root(t)
	need.Program(t, "ip", "iproute2")
	host, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	t.Cleanup(func() {
		if !closed {
			_ = host.Close()
		}
	})
	server, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	port := netip.MustParseAddrPort(server.Addr().String()).Port()

	clients := make(map[netip.Addr]bool)
	for range 3 {
		client, err := host.Dial(t.Context(), port, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		accepted, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		from := netip.MustParseAddrPort(accepted.RemoteAddr().String()).Addr().Unmap()
		if from == host.Server() || from.IsLoopback() {
			t.Errorf("a client comes from %s, an address of the server's", from)
		}
		clients[from] = true
		if mss := segment(t, accepted); mss >= 1500 {
			t.Errorf("a segment has %d bytes: the network is loopback's", mss)
		}
		if _, err := io.WriteString(accepted, "hello"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
			t.Error(err)
		}
	}
	if len(clients) != 3 {
		t.Errorf("three clients come from %d addresses", len(clients))
	}
	closed = true
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	if _, err := net.InterfaceByName("lo"); err != nil {
		t.Errorf("this thread is not at home: %v", err)
	}
	if conn, err := host.Dial(t.Context(), port, patience); err == nil {
		conn.Close()
		t.Error("a client of a closed host connects")
	}
}

// Two hosts of one process are in two networks.
func TestHostsAreApart(t *testing.T) {
	need.Root(t)
	need.Program(t, "ip", "iproute2")
	seen := make(map[netip.Addr]bool)
	for range 2 {
		host, err := netns.New()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := host.Close(); err != nil {
				t.Error(err)
			}
		})
		seen[host.Server()] = true
	}
	if len(seen) != 2 {
		t.Error("two hosts have one network")
	}
}

// segment is the most that a packet of the connection carries.
func segment(t *testing.T, conn net.Conn) int {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var size int
	if controlErr := raw.Control(func(fd uintptr) {
		size, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
	}); controlErr != nil {
		t.Fatal(controlErr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return size
}
