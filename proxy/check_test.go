package proxy

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/proxytest"
)

// An app whose many servers do not answer has others checked none the later.
func TestChecksAreSharedFairly(t *testing.T) {
	const ports = 2 * checksAtOnce
	var failed atomic.Int64
	s, full := newServerWith(t, slog.New(slog.DiscardHandler), func() { failed.Add(1) }), fullBacklog(t)
	routes := proxytest.RoutesTo(t, ports+1, "hung")
	server := enginetest.NewServer(t, "calm")
	calm := proxytest.RouteTo("calm", routes[ports].Key.Port, server)
	calm.HealthCheck = 10 * time.Millisecond
	routes = routes[:ports]
	for i := range routes {
		routes[i].Servers = []deploy.Server{{Container: "full", Dyno: "web.1", Addr: full.addr, Proven: true}}
		routes[i].HealthCheck = 10 * time.Millisecond
	}
	proxytest.Apply(t, s, routes...)
	wait.Until(t, "all its slots are taken", func() bool { return full.connecting(t) == min(checksOfApp, checksAtOnce) })

	proxytest.Apply(t, s, append(routes, calm)...)
	server.Refuse()
	wait.Until(t, "the other app's server is known to be down", func() bool {
		return len(proxytest.Observe(t, s).Serving()[calm.Key].Addresses(false)) == 1
	})
	if n := failed.Load(); n != 1 {
		t.Errorf("%d servers are known to be down: a check had to end before another app's could begin", n)
	}
}
