package proxy

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/netns"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/proxytest"
)

// When the local ports to one container have run out, those to another one are used. When all have, clients wait, and go through
// as fast as ports become free. It is told, and counted.
func TestLocalPortsRunOut(t *testing.T) {
	const ports, waiting = 8, 80
	if !netns.Alone(t, ports) {
		return
	}
	var log wait.Buffer
	s := newServerWith(t, slog.New(slog.NewTextHandler(&log, nil)), nil)
	r := proxytest.RouteTo("mail", enginetest.FreePort(t), enginetest.NewServer(t, "one"), enginetest.NewServer(t, "two"))
	// One after the other with a pause between two, fewer than half of them would be in time.
	r.Hold, r.HealthCheck = 4*time.Second, 0
	// All clients are to have the same container.
	r.Options.Balance = deploy.BySource
	proxytest.Apply(t, s, r)

	n := 0
	dial := func() *proxytest.Client {
		t.Helper()
		n++
		// Its own port is none of those that are short, and its connection leaves none behind.
		from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000 + n}
		conn, err := net.DialTCP("tcp4", from, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), r.Key.Port)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		return proxytest.NewClient(t, conn)
	}
	var first []*proxytest.Client
	names := make(map[string]int)
	for range 2 * ports {
		c := dial()
		names[c.Greeting()]++
		first = append(first, c)
	}
	if names["one"] != ports || names["two"] != ports {
		t.Errorf("got %v, want %d each", names, ports)
	}
	if failed := proxytest.Observe(t, s).Routes[0].Failed; failed < ports {
		t.Errorf("%d attempts failed, want %d at least", failed, ports)
	}
	if told := strings.Count(log.String(), "ip_local_port_range"); told != 1 {
		t.Errorf("it was told %d times:\n%s", told, log.String())
	}

	var second []*proxytest.Client
	for range waiting {
		second = append(second, dial())
	}
	wait.Until(t, "they wait", func() bool { return proxytest.Observe(t, s).Routes[0].Held == waiting })
	for _, c := range first {
		c.Conn.Close()
	}
	// Whose turn it is is nobody's choice.
	var served sync.WaitGroup
	for _, c := range second {
		served.Go(func() {
			if _, err := c.Lines.ReadString('\n'); err != nil {
				t.Errorf("no greeting: %v", err)
			}
			c.Conn.Close()
		})
	}
	served.Wait()
}
