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
)

func TestEngine(t *testing.T) {
	t.Run("server", func(t *testing.T) {
		start := func(t *testing.T) deploy.Engine { return newServer(t) }
		enginetest.Run(t, start)
		enginetest.RunOptions(t, start)
	})
	t.Run("client", func(t *testing.T) {
		start := func(t *testing.T) deploy.Engine { return runDaemon(t, Options{Control: controlPath(t)}) }
		enginetest.Run(t, start)
		enginetest.RunOptions(t, start)
	})
}

func TestPortTakenNamesItsHolder(t *testing.T) {
	v1 := enginetest.NewServer(t, "v1")
	_, err := newServer(t).Apply(t.Context(), deploy.Table{Routes: []deploy.Route{routeTo("mail", v1.Addr.Port(), v1)}})
	var routeErr *deploy.RouteError
	if !errors.As(err, &routeErr) || !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "(pid ") {
		t.Errorf("got %v", err)
	}
}

// Connections on what is no longer current are counted, kept, and cut when the route says so.
func TestOldConnections(t *testing.T) {
	v1, v2 := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2")
	s, port := newServer(t), enginetest.FreePort(t)
	draining := func() int { return onOldServers(observe(t, s), "mail") }

	apply(t, s, routeTo("mail", port, v1))
	var old []*client
	for range 3 {
		c := dialPort(t, port)
		c.greeting()
		old = append(old, c)
	}
	if n := draining(); n != 0 {
		t.Errorf("%d connections drain before any switch", n)
	}
	apply(t, s, routeTo("mail", port, v2))
	if n := draining(); n != 3 {
		t.Errorf("%d connections drain, want 3", n)
	}
	current := dialPort(t, port)
	current.greeting()

	old[0].conn.Close()
	wait.Until(t, "one has ended", func() bool { return draining() == 2 })
	old[1].echo()

	// What becomes current again drains no longer, and is not cut.
	cutting := routeTo("mail", port, v1)
	cutting.CutOld = time.Millisecond
	apply(t, s, cutting)
	if err := current.awaitEnd(); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("an old connection ended with %v, want a reset", err)
	}
	old[1].echo()
	old[2].echo()
	wait.Until(t, "none drains", func() bool { return draining() == 0 })

	// A route that goes leaves the connections alone on what was current until then, but not those whose time ran already.
	cutting.Servers, cutting.CutOld = routeTo("mail", port, v2).Servers, 0
	apply(t, s, cutting)
	current = dialPort(t, port)
	current.greeting()
	cutting.CutOld = time.Second
	apply(t, s, cutting)
	apply(t, s)
	for _, c := range old[1:] {
		if err := c.awaitEnd(); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("an old connection ended with %v, want a reset", err)
		}
	}
	current.echo()
	current.conn.Close()
	wait.Until(t, "nothing is left", func() bool { apply(t, s); return len(observe(t, s).Routes) == 0 })
}

// A flood on one port, which fills all that it may have, leaves others usable.
func TestFloodLeavesOthersUsable(t *testing.T) {
	const most = 50
	s := newServer(t)
	v1 := enginetest.NewServer(t, "v1")
	flooded, calm := enginetest.FreePort(t), enginetest.FreePort(t)
	table := deploy.Table{Routes: []deploy.Route{routeTo("calm", calm, v1), routeTo("flooded", flooded, v1)}, TotalConnections: most}
	if _, err := s.Apply(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	var flood []*client
	for range 3 * most {
		flood = append(flood, dialPort(t, flooded))
	}
	const share = most * greed / (greed + 1)
	wait.Until(t, "the flood has its share", func() bool { return s.connections() == share })
	for range 20 {
		c := dialPort(t, calm)
		c.greeting()
		c.echo()
		c.conn.Close()
	}
	// Who waited is served when others go.
	for _, c := range flood[:share] {
		c.greeting()
		c.conn.Close()
	}
	for _, c := range flood[share : 2*share] {
		c.greeting()
	}
	// And when more may come.
	table.TotalConnections = 0
	if _, err := s.Apply(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	for _, c := range flood[2*share:] {
		c.greeting()
	}
}

// A limit that an operator sets is what a single port gets, no less and no more.
func TestTotalConnectionsOfOnePort(t *testing.T) {
	const most = 10
	s, r := newServer(t), routeTo("mail", enginetest.FreePort(t), enginetest.NewServer(t, "v1"))
	if _, err := s.Apply(t.Context(), deploy.Table{Routes: []deploy.Route{r}, TotalConnections: most}); err != nil {
		t.Fatal(err)
	}
	var clients []*client
	for range most {
		c := dialPort(t, r.Frontend.Port)
		c.greeting()
		clients = append(clients, c)
	}
	next := dialPort(t, r.Frontend.Port)
	clients[0].echo()
	if n := s.connections(); n != most {
		t.Errorf("there are %d connections, want %d", n, most)
	}
	clients[0].conn.Close()
	next.greeting()
}

// What a table says of options reaches who is asked for them, and goes along when another daemon takes over.
func TestOptionsAreHandedOver(t *testing.T) {
	control, v1 := controlPath(t), enginetest.NewServer(t, "v1")
	first := runDaemon(t, Options{Control: control})
	r := routeTo("mail", enginetest.FreePort(t), v1)
	options, err := deploy.ParseOptions("allow=127.0.0.1 accept-proxy=10.0.0.1 max-connections=1 rate=7/10s idle-timeout=1h balance=source")
	if err != nil {
		t.Fatal(err)
	}
	r.Options = options
	apply(t, first, r)
	old := dialPort(t, r.Frontend.Port)
	old.greeting()
	second := runDaemon(t, Options{Control: control})
	if got := observe(t, second).Serving()[r.Frontend].Options; got != options {
		t.Errorf("serving with %s, want %s", got, options)
	}
	// What the former daemon has does not count here.
	one, two := dialPort(t, r.Frontend.Port), dialPort(t, r.Frontend.Port)
	one.greeting()
	old.echo()
	one.conn.Close()
	two.greeting()
}
