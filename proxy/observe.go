package proxy

import (
	"context"
	"os"
	"slices"
	"sync/atomic"

	"dokku-expose/deploy"
)

// Observe implements [deploy.Engine]. Of the daemon that the server is part of it knows nothing more than the process.
func (s *Server) Observe(_ context.Context, aspects ...deploy.Aspect) (deploy.Observation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := deploy.Observation{
		Engine: EngineName, Running: true, Since: s.started, Processes: []int{os.Getpid()},
		Routes: []deploy.RouteState{}, Old: []deploy.Process{},
		Switches: &deploy.Switches{Count: s.switches, Seconds: s.switchTime.Seconds()},
	}
	_, o.MaxConnections = s.limit.counts()
	o.Unrecognized = s.unrecognized.Load()
	counters := slices.Contains(aspects, deploy.Counters)
	for _, r := range s.routes {
		if state := r.observe(counters); counters || state.Listening {
			o.Routes = append(o.Routes, state)
		}
	}
	o.Sort()
	return o, nil
}

// observe is what became of the connections to the route, since the server took it on; without counters its current servers only.
func (r *route) observe(counters bool) deploy.RouteState {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := deploy.RouteState{
		App: r.app, Process: r.spec.Process, Key: r.listen, Options: r.spec.Options, ClientCA: r.spec.ClientCA, Listening: r.active, Servers: []deploy.ServerState{},
	}
	if !counters {
		for _, u := range r.current {
			state.Servers = append(state.Servers, deploy.ServerState{Dyno: u.dyno, Container: u.container, Addr: u.addr, Up: u.up || !r.hasChecks()})
		}
		for _, u := range r.retired {
			if r.listen.Proto == deploy.UDP {
				state.Servers = append(state.Servers, deploy.ServerState{Dyno: u.dyno, Container: u.container, Addr: u.addr, Old: true})
			}
		}
		return state
	}
	state.Datagrams = r.observeDatagrams()
	sum := r.past
	for _, u := range slices.Concat(r.current, r.retired) {
		counts := u.counts()
		state.Servers = append(state.Servers, deploy.ServerState{
			Dyno: u.dyno, Container: u.container, Addr: u.addr, Old: !u.retiredAt.IsZero(), Up: u.up || !r.hasChecks(),
			Connections: u.connections(), Counts: &counts,
		})
		sum.add(counts, u.drainedSoFar())
	}
	unserved := r.unserved.Load()
	state.HandshakesFailed = r.handshakesFailed.Load()
	r.secured.Range(func(version, count any) bool {
		if state.TLSVersions == nil {
			state.TLSVersions = make(map[string]uint64)
		}
		state.TLSVersions[version.(string)] = count.(*atomic.Uint64).Load()
		return true
	})
	state.Held, state.Unserved, state.Switched = int(r.held.Load()), &unserved, r.lastSwitch
	state.Total, state.Failed, state.In, state.Out, state.Drained = sum.Total, sum.Failed, sum.In, sum.Out, &sum.drained
	return state
}

func (u *upstream) counts() deploy.Counts {
	return deploy.Counts{Total: u.total.Load(), Failed: u.failed.Load(), In: u.counters.In.Load(), Out: u.counters.Out.Load()}
}

// connections are those that are established now.
func (u *upstream) connections() int { return len(u.sessions) }

// drainedSoFar counts the connections that ended while the server was not current.
func (u *upstream) drainedSoFar() uint64 {
	if u.retiredAt.IsZero() {
		return u.drained
	}
	return u.drained + uint64(u.sessionsAtRetire-u.connections())
}

// sums are the counters of several servers. Drained are connections that ended on a server that was no longer current.
type sums struct {
	deploy.Counts
	drained uint64
}

func (s *sums) add(c deploy.Counts, drained uint64) {
	s.Total += c.Total
	s.Failed += c.Failed
	s.In += c.In
	s.Out += c.Out
	s.drained += drained
}

// forget keeps the counters of a server that the route loses. The mutex is held.
func (r *route) forget(u *upstream) { r.past.add(u.counts(), u.drainedSoFar()) }

// countVersion counts a client by its version of TLS.
func (r *route) countVersion(version string) {
	count, ok := r.secured.Load(version)
	if !ok {
		count, _ = r.secured.LoadOrStore(version, new(atomic.Uint64))
	}
	count.(*atomic.Uint64).Add(1)
}
