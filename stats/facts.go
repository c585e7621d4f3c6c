package stats

import (
	"cmp"
	"slices"
	"time"
)

// Facts are what there is to know of an engine at one moment.
type Facts struct {
	// Engine is the word for it in the setting `engine`.
	Engine string `json:"engine"`
	// PID is the id of its main process, 0 where that is the one that asks.
	PID int `json:"-"`
	// Version is the engine's own.
	Version string `json:"version"`
	// Since is when its totals began to count.
	Since time.Time `json:"since"`
	// MaxConnections is the most that it takes.
	MaxConnections int     `json:"max_connections"`
	Routes         []Route `json:"routes"`
	// Old are its former processes that have connections still: daemons that were taken over from, workers before a reload.
	Old []Process `json:"old_processes"`
	// Switches are nil where the engine does not count them.
	Switches *Switches `json:"switches"`
	// Reloads is how often the engine was reloaded, nil where there is no such thing.
	Reloads *uint64 `json:"reloads"`
	// Warning says what could not be found out and is missing here, "" when nothing is.
	Warning string `json:"warning,omitempty"`
}

// Switches are how often public addresses were moved to other containers, and how long that took together.
type Switches struct {
	Count   uint64  `json:"count"`
	Seconds float64 `json:"seconds"`
}

// Process is a former process of an engine.
type Process struct {
	PID int `json:"pid"`
	// Connections are those that it has still.
	Connections int `json:"connections"`
}

// Route is one public address. Current connections are those of all processes of the engine, totals those of the current one.
type Route struct {
	App string `json:"app"`
	// Process is the process type, "" where the engine does not know it.
	Process string `json:"process"`
	// Public is the public address as a PORTS file writes it.
	Public string `json:"public"`
	// Listening is false for an address that is closed and has connections still.
	Listening bool `json:"listening"`
	// Held are connections that wait for a container now; they are not among those of the servers.
	Held int `json:"held"`
	// Total, Failed (attempts to connect to a container), In (bytes from clients) and Out include servers that are gone.
	Total  uint64 `json:"total"`
	Failed uint64 `json:"failed"`
	In     uint64 `json:"bytes_in"`
	Out    uint64 `json:"bytes_out"`
	// Unserved were closed since no container came up in time, Drained ended on a container that was no longer current; nil
	// where the engine does not count them.
	Unserved *uint64 `json:"unserved"`
	Drained  *uint64 `json:"drained"`
	// Switched is when the servers changed last, zero where that is not known.
	Switched time.Time `json:"switched,omitzero"`
	Servers  []Server  `json:"servers"`
}

// Server is a container behind a route.
type Server struct {
	// Dyno is Dokku's name for its place, Container the container's full id; "" when it is not known who has the address.
	Dyno      string `json:"dyno"`
	Container string `json:"container"`
	// Addr is where the host reaches it.
	Addr string `json:"addr"`
	// Old tells that it gets no new connections any more, Up that it accepts connections.
	Old bool `json:"old"`
	Up  bool `json:"up"`
	// Connections are open now.
	Connections int `json:"connections"`
	// Counts are nil where the engine does not count by container.
	*Counts
}

// Counts are the totals of one container.
type Counts struct {
	Total  uint64 `json:"total"`
	Failed uint64 `json:"failed"`
	In     uint64 `json:"bytes_in"`
	Out    uint64 `json:"bytes_out"`
}

// State is a word for what the container does: "ready", "down", "draining".
func (s Server) State() string {
	switch {
	case s.Old:
		return "draining"
	case s.Up:
		return "ready"
	}
	return "down"
}

// ShortID is the container's id as Docker shortens it.
func (s Server) ShortID() string { return s.Container[:min(12, len(s.Container))] }

// State is a word for what becomes of new connections: "serving", "held", "closed".
func (r Route) State() string {
	switch {
	case !r.Listening:
		return "closed"
	case slices.ContainsFunc(r.Servers, func(s Server) bool { return !s.Old && s.Up }):
		return "serving"
	}
	return "held"
}

// Connections are open now, held ones included.
func (r Route) Connections() int { return r.Held + r.on(func(Server) bool { return true }) }

// Draining are the connections on old containers.
func (r Route) Draining() int { return r.on(func(s Server) bool { return s.Old }) }

func (r Route) on(which func(Server) bool) int {
	n := 0
	for _, s := range r.Servers {
		if which(s) {
			n += s.Connections
		}
	}
	return n
}

// Lost are the connections that no container took in time, as far as the engine counts them.
func (r Route) Lost() uint64 {
	if r.Unserved == nil {
		return 0
	}
	return *r.Unserved
}

// Of are the facts of one app's routes.
func (f Facts) Of(app string) Facts {
	f.Routes = slices.DeleteFunc(slices.Clone(f.Routes), func(r Route) bool { return r.App != app })
	return f
}

// Connections are open now, on all routes.
func (f Facts) Connections() int { return f.sum(Route.Connections) }

// Draining are the connections on old containers, of all routes.
func (f Facts) Draining() int { return f.sum(Route.Draining) }

// Held are the connections that wait for a container, on all routes.
func (f Facts) Held() int { return f.sum(func(r Route) int { return r.Held }) }

func (f Facts) sum(of func(Route) int) int {
	n := 0
	for _, r := range f.Routes {
		n += of(r)
	}
	return n
}

// Sort puts everything into the order in which it is shown: routes by app and address, servers by dyno, the current one first.
func (f Facts) Sort() {
	slices.SortFunc(f.Routes, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.App, b.App), comparePublic(a.Public, b.Public))
	})
	for _, r := range f.Routes {
		slices.SortFunc(r.Servers, func(a, b Server) int {
			return cmp.Or(cmp.Compare(a.Dyno, b.Dyno), compareBool(a.Old, b.Old), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Addr, b.Addr))
		})
	}
}

// comparePublic has 25 before 143, and ports before addresses.
func comparePublic(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
