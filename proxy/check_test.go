package proxy

import (
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/wait"
)

// An app whose many servers do not answer has others checked none the later.
func TestChecksAreSharedFairly(t *testing.T) {
	const ports = 2 * checksAtOnce
	s, full := newServer(t), fullBacklog(t)
	routes := routesTo(t, ports+1, "hung")
	server := enginetest.NewServer(t, "calm")
	calm := routeTo("calm", routes[ports].Frontend.Port, server)
	calm.HealthCheck = 10 * time.Millisecond
	routes = routes[:ports]
	for i := range routes {
		routes[i].Servers = []deploy.Server{{Container: "full", Dyno: "web.1", Addr: full, Proven: true}}
		routes[i].HealthCheck = 10 * time.Millisecond
	}
	apply(t, s, routes...)
	wait.Until(t, "all its slots are taken", func() bool { return len(s.checks) == min(cap(s.appChecks["hung"]), checksAtOnce) })

	apply(t, s, append(routes, calm)...)
	server.Refuse()
	wait.Until(t, "the other app's server is known to be down", func() bool {
		return len(observe(t, s).Serving()[calm.Frontend].Addresses(false)) == 1
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.routes {
		r.mu.Lock()
		if r.app == "hung" && !r.current[0].failedAt.IsZero() {
			t.Error("a check had to end before another app's could begin")
		}
		r.mu.Unlock()
	}
}
