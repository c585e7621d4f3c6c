package proxy

import (
	"cmp"
	"os"
	"slices"
	"time"
)

// Status is what a daemon says of itself.
type Status struct {
	// Version is the program's, PID the process's.
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// Connections are those of clients now, MaxConnections the most that there may be.
	Connections    int `json:"connections"`
	MaxConnections int `json:"max_connections"`
	// Switches are changes of a table that moved at least one public address to other servers, SwitchTime is how long they took
	// together.
	Switches   uint64        `json:"switches"`
	SwitchTime time.Duration `json:"switch_ns"`
	Routes     []RouteStatus `json:"routes"`
	// Predecessors are daemons that this one took over from, and that still have connections.
	Predecessors []Status `json:"predecessors"`
}

// RouteStatus is what became of the connections to one public address, since the daemon took it on.
type RouteStatus struct {
	App     string `json:"app"`
	Process string `json:"process"`
	// Public is the public address as a PORTS file writes it.
	Public string `json:"public"`
	// Serving is false for an address that is out of the table and has connections still.
	Serving bool           `json:"serving"`
	Servers []ServerStatus `json:"servers"`
	// Held are connections that wait for a server now, Unserved those that were closed since none came up in time.
	Held     int    `json:"held"`
	Unserved uint64 `json:"unserved"`
	// Total, Failed, In and Out are those of all servers, the ones that are gone included. Drained are connections that ended
	// on a server that was no longer current.
	Total   uint64 `json:"total"`
	Failed  uint64 `json:"failed"`
	In      uint64 `json:"bytes_in"`
	Out     uint64 `json:"bytes_out"`
	Drained uint64 `json:"drained"`
	// Switched is when the servers changed last.
	Switched time.Time `json:"switched"`
}

// ServerStatus is one server of a route.
type ServerStatus struct {
	Container string `json:"container"`
	Dyno      string `json:"dyno"`
	Addr      string `json:"addr"`
	// Up tells that it is known to accept connections.
	Up bool `json:"up"`
	// Current is false for a server that gets no new connections any more.
	Current bool `json:"current"`
	// Connections are open now, Total were made, Failed are attempts to connect that were not successful. In and Out are bytes
	// from and to clients.
	Connections int    `json:"connections"`
	Total       uint64 `json:"total"`
	Failed      uint64 `json:"failed"`
	In          uint64 `json:"bytes_in"`
	Out         uint64 `json:"bytes_out"`
}

// Status tells what the server does. Of the daemon that it is part of it knows nothing more than the process.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := Status{PID: os.Getpid(), Started: s.started, Routes: []RouteStatus{}, Predecessors: []Status{}}
	status.Connections, status.MaxConnections = s.limit.counts()
	status.Switches, status.SwitchTime = s.switches, s.switchTime
	for _, r := range s.routes {
		status.Routes = append(status.Routes, r.status())
	}
	slices.SortFunc(status.Routes, func(a, b RouteStatus) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Public, b.Public))
	})
	return status
}

func (r *route) status() RouteStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := RouteStatus{
		App: r.app, Process: r.spec.Process, Public: r.listen.String(), Serving: r.active, Servers: []ServerStatus{},
		Held: int(r.held.Load()), Unserved: r.unserved.Load(), Switched: r.lastSwitch,
	}
	sum := r.past
	for _, u := range slices.Concat(r.current, r.retired) {
		server := u.status()
		status.Servers = append(status.Servers, server)
		sum.add(server, u.drainedSoFar())
	}
	status.Total, status.Failed, status.In, status.Out, status.Drained = sum.total, sum.failed, sum.in, sum.out, sum.drained
	return status
}

func (u *upstream) status() ServerStatus {
	return ServerStatus{
		Container: u.container, Dyno: u.dyno, Addr: u.addr.String(), Up: u.up, Current: u.retiredAt.IsZero(),
		Connections: u.connections(), Total: u.total.Load(), Failed: u.failed.Load(),
		In: u.counters.In.Load(), Out: u.counters.Out.Load(),
	}
}

// connections are those that are established now.
func (u *upstream) connections() int { return len(u.sessions) }

// drainedSoFar counts the connections that ended while the server was not current.
func (u *upstream) drainedSoFar() uint64 {
	if u.retiredAt.IsZero() {
		return u.drained
	}
	return u.drained + uint64(u.left-u.connections())
}

// sums are the counters of several servers.
type sums struct {
	total, failed, in, out, drained uint64
}

func (s *sums) add(server ServerStatus, drained uint64) {
	s.total += server.Total
	s.failed += server.Failed
	s.in += server.In
	s.out += server.Out
	s.drained += drained
}

// forget keeps the counters of a server that the route loses. The mutex is held.
func (r *route) forget(u *upstream) { r.past.add(u.status(), u.drainedSoFar()) }
