package proxy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/proxytest"
)

func TestEngine(t *testing.T) {
	t.Run("server", func(t *testing.T) {
		start := func(t *testing.T) deploy.Engine { return newServer(t) }
		enginetest.Run(t, start)
		enginetest.RunOptions(t, start)
		enginetest.RunTLS(t, start)
		enginetest.RunNames(t, start)
		enginetest.RunUDP(t, start)
	})
}

func TestPortTakenNamesItsHolder(t *testing.T) {
	v1 := enginetest.NewServer(t, "v1")
	_, err := newServer(t).Apply(t.Context(), deploy.Table{Routes: []deploy.Route{proxytest.RouteTo("mail", v1.Addr.Port(), v1)}})
	var routeErr *deploy.RouteError
	if !errors.As(err, &routeErr) || !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "(pid ") {
		t.Errorf("got %v", err)
	}
}

// Connections on what is no longer current are counted, kept, and cut when the route says so.
func TestOldConnections(t *testing.T) {
	v1, v2 := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2")
	s, port := newServer(t), enginetest.FreePort(t)
	draining := func() int { return proxytest.OnOldServers(proxytest.Observe(t, s), "mail") }

	proxytest.Apply(t, s, proxytest.RouteTo("mail", port, v1))
	var old []*proxytest.Client
	for range 3 {
		c := proxytest.Dial(t, port)
		c.Greeting()
		old = append(old, c)
	}
	if n := draining(); n != 0 {
		t.Errorf("%d connections drain before any switch", n)
	}
	proxytest.Apply(t, s, proxytest.RouteTo("mail", port, v2))
	if n := draining(); n != 3 {
		t.Errorf("%d connections drain, want 3", n)
	}
	current := proxytest.Dial(t, port)
	current.Greeting()

	old[0].Conn.Close()
	wait.Until(t, "one has ended", func() bool { return draining() == 2 })
	old[1].Echo()

	// What becomes current again drains no longer, and is not cut.
	cutting := proxytest.RouteTo("mail", port, v1)
	cutting.CutOld = time.Millisecond
	proxytest.Apply(t, s, cutting)
	if err := current.AwaitEnd(); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("an old connection ended with %v, want a reset", err)
	}
	old[1].Echo()
	old[2].Echo()
	wait.Until(t, "none drains", func() bool { return draining() == 0 })

	// A route that goes leaves the connections alone on what was current until then, but not those whose time ran already.
	cutting.Servers, cutting.CutOld = proxytest.RouteTo("mail", port, v2).Servers, 0
	proxytest.Apply(t, s, cutting)
	current = proxytest.Dial(t, port)
	current.Greeting()
	cutting.CutOld = time.Second
	proxytest.Apply(t, s, cutting)
	proxytest.Apply(t, s)
	for _, c := range old[1:] {
		if err := c.AwaitEnd(); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("an old connection ended with %v, want a reset", err)
		}
	}
	current.Echo()
	current.Conn.Close()
	wait.Until(t, "nothing is left", func() bool { proxytest.Apply(t, s); return len(proxytest.Observe(t, s).Routes) == 0 })
}

// A flood on one port, which fills all that it may have, leaves others usable.
func TestFloodLeavesOthersUsable(t *testing.T) {
	const most = 50
	s := newServer(t)
	v1 := enginetest.NewServer(t, "v1")
	flooded, calm := enginetest.FreePort(t), enginetest.FreePort(t)
	table := deploy.Table{Routes: []deploy.Route{proxytest.RouteTo("calm", calm, v1), proxytest.RouteTo("flooded", flooded, v1)}, TotalConnections: most}
	if _, err := s.Apply(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	var flood []*proxytest.Client
	for range 3 * most {
		flood = append(flood, proxytest.Dial(t, flooded))
	}
	const share = most * greed / (greed + 1)
	wait.Until(t, "the flood has its share", func() bool { return s.Connections() == share })
	for range 20 {
		c := proxytest.Dial(t, calm)
		c.Greeting()
		c.Echo()
		c.Conn.Close()
	}
	// Who waited is served when others go.
	for _, c := range flood[:share] {
		c.Greeting()
		c.Conn.Close()
	}
	for _, c := range flood[share : 2*share] {
		c.Greeting()
	}
	// And when more may come.
	table.TotalConnections = 0
	if _, err := s.Apply(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	for _, c := range flood[2*share:] {
		c.Greeting()
	}
}

// A limit that an operator sets is what a single port gets, no less and no more.
func TestTotalConnectionsOfOnePort(t *testing.T) {
	const most = 10
	s, r := newServer(t), proxytest.RouteTo("mail", enginetest.FreePort(t), enginetest.NewServer(t, "v1"))
	if _, err := s.Apply(t.Context(), deploy.Table{Routes: []deploy.Route{r}, TotalConnections: most}); err != nil {
		t.Fatal(err)
	}
	var clients []*proxytest.Client
	for range most {
		c := proxytest.Dial(t, r.Key.Port)
		c.Greeting()
		clients = append(clients, c)
	}
	next := proxytest.Dial(t, r.Key.Port)
	clients[0].Echo()
	if n := s.Connections(); n != most {
		t.Errorf("there are %d connections, want %d", n, most)
	}
	clients[0].Conn.Close()
	next.Greeting()
}
