package proxy

import (
	"fmt"
	"io"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/proxytest"
)

// What a route has counted does not get less when a server leaves it.
func TestCountersOutliveTheirServers(t *testing.T) {
	v1, v2 := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2")
	s, port := newServer(t), enginetest.FreePort(t)
	status := func() deploy.RouteState { return proxytest.Observe(t, s).Routes[0] }
	proxytest.Apply(t, s, proxytest.RouteTo("mail", port, v1))
	var clients []*proxytest.Client
	var out uint64
	for range 3 {
		c := proxytest.Dial(t, port)
		c.Greeting()
		c.Echo()
		out += uint64(len(fmt.Sprintf("v1 v1 %d\n", v1.Addr.Port())) + len("hello\n"))
		clients = append(clients, c)
	}
	in := uint64(3 * len("hello\n"))
	want := func(when string, total, drained uint64, servers int) {
		t.Helper()
		if r := status(); r.Total != total || r.In != in || r.Out != out || *r.Drained != drained || len(r.Servers) != servers {
			t.Errorf("%s: got %+v, want %d connections, %d drained, %d bytes in, %d out, %d servers", when, r, total, drained, in, out, servers)
		}
	}
	// leave has the server end the connection, so that each byte of it is counted.
	leave := func(c *proxytest.Client) {
		t.Helper()
		if err := c.Conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(c.Lines)
		if err != nil {
			t.Fatal(err)
		}
		out += uint64(len(rest))
	}
	wait.Until(t, "all bytes are counted", func() bool { return status().Out == out && status().In == in })
	want("before a switch", 3, 0, 1)
	if n := proxytest.Observe(t, s).Switches.Count; n != 1 {
		t.Errorf("%d switches, want 1", n)
	}

	proxytest.Apply(t, s, proxytest.RouteTo("mail", port, v2))
	want("after it", 3, 0, 2)
	if status := proxytest.Observe(t, s).Switches; status.Count != 2 || status.Seconds <= 0 {
		t.Errorf("%d switches in %s, want 2", status.Count, time.Duration(status.Seconds*float64(time.Second)))
	}
	leave(clients[0])
	wait.Until(t, "one has ended", func() bool { return *status().Drained == 1 })
	want("when one has drained", 3, 1, 2)

	// What becomes current again drains no longer.
	proxytest.Apply(t, s, proxytest.RouteTo("mail", port, v1))
	want("when the old server is back", 3, 1, 1)
	leave(clients[1])
	wait.Until(t, "another one has ended", func() bool { return status().Servers[0].Connections == 1 })
	want("when one has ended on a current server", 3, 1, 1)

	proxytest.Apply(t, s, proxytest.RouteTo("mail", port, v2))
	leave(clients[2])
	wait.Until(t, "the old server is gone", func() bool { return len(status().Servers) == 1 })
	want("when it is gone", 3, 2, 1)

	proxytest.Apply(t, s, proxytest.RouteTo("mail", port, v2))
	if n := proxytest.Observe(t, s).Switches.Count; n != 4 {
		t.Errorf("%d switches after an Apply that changed nothing, want 4", n)
	}
}
