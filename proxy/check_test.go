package proxy

import (
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
)

// An app whose many servers do not answer has others checked none the later.
func TestChecksAreSharedFairly(t *testing.T) {
	const ports = 2 * checksAtOnce
	s, full := newServer(t), fullBacklog(t)
	routes := routesTo(t, ports+1, "hung")
	calm := routeTo("calm", routes[ports].Listen.Port, enginetest.NewServer(t, "calm"))
	calm.Servers[0].Proven = false
	routes = routes[:ports]
	for i := range routes {
		routes[i].Servers = []deploy.Server{{Container: "full", Dyno: "web.1", Addr: full}}
		routes[i].HealthCheck = 10 * time.Millisecond
	}
	apply(t, s, routes...)
	eventually(t, "all its slots are taken", func() bool { return len(s.checks) == min(cap(s.appChecks["hung"]), checksAtOnce) })

	apply(t, s, append(routes, calm)...)
	eventually(t, "the other app's server is known to be up", func() bool {
		serving, err := s.Serving(t.Context())
		return err == nil && len(serving[calm.Listen].Servers) == 1
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
