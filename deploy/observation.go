package deploy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Aspect is a part of an [Observation] that costs more than the rest: with a thousand ports, HAProxy takes several times as long to
// count as to say what it serves.
type Aspect int

const (
	// Counters are the counts of connections and bytes, and the former processes.
	Counters Aspect = iota + 1
	// Health is what is wrong with the engine, and its process ids.
	Health
)

// Observation is what an engine says at one moment of itself and of what it serves. It is read from the engine each time, never
// remembered. The fields up to Routes are always there.
type Observation struct {
	// Engine is the word for it in the setting `engine`, Version the engine's own.
	Engine  string `json:"engine"`
	Version string `json:"version"`
	// Running is false for an engine that does not run: it serves nothing, and of the rest only Wrong is known.
	Running bool `json:"-"`
	// MaxConnections is the most that it takes.
	MaxConnections int `json:"max_connections"`
	// Page is where the statistics page listens, the zero value when nowhere. Containers is the path of the page that names the
	// containers, "" where that is the same one.
	Page       netip.AddrPort `json:"-"`
	Containers string         `json:"-"`
	// Routes are what it listens on; with Counters also what it has connections of still. They are sorted only by [Observation.Sort].
	Routes []RouteState `json:"routes"`

	// PID is the id of its main process, 0 where that is the one that asks. Since is when its totals began to count.
	// They are among the Counters, as are the fields up to Warning.
	PID   int       `json:"-"`
	Since time.Time `json:"since"`
	// Old are its former processes that have connections still: daemons that were taken over from, workers before a reload.
	Old []Process `json:"old_processes"`
	// Switches are nil where the engine does not count them.
	Switches *Switches `json:"switches"`
	// Reloads is how often the engine was reloaded, nil where there is no such thing.
	Reloads *uint64 `json:"reloads"`
	// Unrecognized are clients that were closed since no route has the server name which they asked for.
	Unrecognized uint64 `json:"unrecognized_names,omitzero"`
	// Warning says what could not be found out and is missing here, "" when nothing is.
	Warning string `json:"warning,omitempty"`

	// Wrong is what is wrong with the engine, and what to do. Remarks are what is worth knowing of it, and of routes that it treats
	// otherwise than another one. Processes are the ids of those that may listen for it. All three are its Health.
	Wrong     []error    `json:"-"`
	Remarks   []*Problem `json:"-"`
	Processes []int      `json:"-"`
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

// RouteState is one public address. Current connections are those of all processes of the engine, totals those of the current one.
type RouteState struct {
	App string `json:"app"`
	// Process is the process type, "" where the engine does not know it.
	Process string `json:"process"`
	Key     Key    `json:"public"`
	// Options are the route's as it was applied. An engine that can't tell says that nobody is let in: whoever keeps a route as it is
	// must not open it.
	Options Options `json:"options,omitzero"`
	// ClientCA is the route's as it was applied.
	ClientCA string `json:"client_ca,omitzero"`
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
	// HandshakesFailed are clients that were closed since they did not come to speak TLS.
	HandshakesFailed uint64 `json:"handshakes_failed,omitzero"`
	// TLSVersions counts the clients of TLS that ends here by its version, as OpenSSL writes it: "TLSv1.3".
	TLSVersions map[string]uint64 `json:"tls_versions,omitzero"`
	// Datagrams are those of UDP, whose connections are sessions: what a client sends to the address, and is answered.
	Datagrams *Datagrams `json:"datagrams,omitempty"`
	// Switched is when the servers changed last, zero where that is not known.
	Switched time.Time `json:"switched,omitzero"`
	// CertificateEnds is when the app's certificate ends, zero without TLS. Engines leave it to others.
	CertificateEnds time.Time     `json:"certificate_ends,omitzero"`
	Servers         []ServerState `json:"servers"`
}

// AboutTLS says what became of clients' TLS that ends here, and until when the certificate is good; "" without such TLS.
func (r RouteState) AboutTLS() string {
	var texts []string
	for _, version := range slices.Backward(slices.Sorted(maps.Keys(r.TLSVersions))) {
		texts = append(texts, fmt.Sprintf("clients by %s: %d", version, r.TLSVersions[version]))
	}
	if r.HandshakesFailed > 0 {
		texts = append(texts, fmt.Sprintf("failed handshakes: %d", r.HandshakesFailed))
	}
	if !r.CertificateEnds.IsZero() {
		texts = append(texts, "certificate until "+r.CertificateEnds.UTC().Format(time.DateOnly))
	}
	return strings.Join(texts, ", ")
}

// AboutUDP says what became of datagrams, "" of TCP.
func (r RouteState) AboutUDP() string {
	if r.Datagrams == nil {
		return ""
	}
	text := fmt.Sprintf("datagrams from clients: %d, to them: %d", r.Datagrams.In, r.Datagrams.Out)
	for _, reason := range slices.Sorted(maps.Keys(r.Datagrams.Dropped)) {
		if n := r.Datagrams.Dropped[reason]; n > 0 {
			text += fmt.Sprintf(", dropped (%s): %d", reason, n)
		}
	}
	return text
}

// ServerState is an address that a route leads to, or has led to.
type ServerState struct {
	// Dyno is Dokku's name for its place, Container the container's full id; "" when it is not known who has the address.
	Dyno      string `json:"dyno"`
	Container string `json:"container"`
	// Addr is where the host reaches it.
	Addr netip.AddrPort `json:"addr"`
	// Old tells that it gets no new connections any more. Up tells that it accepts connections: one that does not gets none
	// before a table proves it again, for the engine can tell that something accepts there, not whose container it is by then.
	Old bool `json:"old"`
	Up  bool `json:"up"`
	// Connections are open now.
	Connections int `json:"connections"`
	// Counts are nil where the engine does not count by container.
	*Counts
}

// Datagrams counts those from clients and to them, and those that were dropped, by reason.
type Datagrams struct {
	In      uint64            `json:"in"`
	Out     uint64            `json:"out"`
	Dropped map[string]uint64 `json:"dropped"`
}

// Counts are the totals of one container.
type Counts struct {
	Total  uint64 `json:"total"`
	Failed uint64 `json:"failed"`
	In     uint64 `json:"bytes_in"`
	Out    uint64 `json:"bytes_out"`
}

// Serving are the routes that the engine listens on.
func (o Observation) Serving() map[Key]RouteState {
	serving := make(map[Key]RouteState, len(o.Routes))
	for _, r := range o.Routes {
		if r.Listening {
			serving[r.Key] = r
		}
	}
	return serving
}

// Addresses are those that the route leads to: with up those that get new connections, without it the others, which were seen to refuse or
// to be silent.
func (r RouteState) Addresses(up bool) (addrs []netip.AddrPort) {
	for _, s := range r.Servers {
		if !s.Old && s.Up == up {
			addrs = append(addrs, s.Addr)
		}
	}
	return addrs
}

// All are the addresses that the route leads to, or may at any moment.
func (r RouteState) All() []netip.AddrPort {
	return slices.Concat(r.Addresses(true), r.Addresses(false))
}

// Former are the addresses that get nothing new, and are sent datagrams still: those of sessions that stay. Connections of TCP hold on to
// a container by themselves.
func (r RouteState) Former() (addrs []netip.AddrPort) {
	for _, s := range r.Servers {
		if r.Key.Proto == UDP && s.Old {
			addrs = append(addrs, s.Addr)
		}
	}
	return addrs
}

// addresses are those with the protocol of the route.
func (r RouteState) addresses(addrs []netip.AddrPort) []Address {
	list := make([]Address, 0, len(addrs))
	for _, addr := range addrs {
		list = append(list, Address{r.Key.Proto, addr})
	}
	return list
}

// serversAt are the servers at the addresses, whosever they are.
func serversAt(addrs []netip.AddrPort) (list []Server) {
	for _, addr := range addrs {
		list = append(list, Server{Addr: addr})
	}
	return list
}

// carried tells whether the route gives connections to addr for the former name of app, in the midst of a rename: a route of the new
// name is another one, of which the engine knows nothing yet.
func (r RouteState) carried(app string, addr netip.AddrPort) bool {
	return r.App != app && r.serves(addr)
}

// serves tells whether new connections may go to addr.
func (r RouteState) serves(addr netip.AddrPort) bool {
	return slices.ContainsFunc(r.Servers, func(s ServerState) bool { return s.Addr == addr && s.Up && !s.Old })
}

// State is a word for what the container does: "ready", "down", "draining".
func (s ServerState) State() string {
	switch {
	case s.Old:
		return "draining"
	case s.Up:
		return "ready"
	}
	return "down"
}

// ShortID is the container's id as Docker shortens it.
func (s ServerState) ShortID() string { return shortID(s.Container) }

// State is a word for what becomes of new connections: "serving", "held", "closed".
func (r RouteState) State() string {
	switch {
	case !r.Listening:
		return "closed"
	case slices.ContainsFunc(r.Servers, func(s ServerState) bool { return !s.Old && s.Up }):
		return "serving"
	}
	return "held"
}

// Connections are open now, held ones included.
func (r RouteState) Connections() int { return r.Held + r.on(func(ServerState) bool { return true }) }

// Draining are the connections on old containers.
func (r RouteState) Draining() int { return r.on(func(s ServerState) bool { return s.Old }) }

func (r RouteState) on(which func(ServerState) bool) int {
	n := 0
	for _, s := range r.Servers {
		if which(s) {
			n += s.Connections
		}
	}
	return n
}

// Lost are the connections that no container took in time, as far as the engine counts them.
func (r RouteState) Lost() uint64 {
	if r.Unserved == nil {
		return 0
	}
	return *r.Unserved
}

// Of is the observation of one app's routes.
func (o Observation) Of(app string) Observation {
	o.Routes = slices.DeleteFunc(slices.Clone(o.Routes), func(r RouteState) bool { return r.App != app })
	return o
}

// Connections are open now, on all routes.
func (o Observation) Connections() int { return o.sum(RouteState.Connections) }

// Draining are the connections on old containers, of all routes.
func (o Observation) Draining() int { return o.sum(RouteState.Draining) }

// Held are the connections that wait for a container, on all routes.
func (o Observation) Held() int { return o.sum(func(r RouteState) int { return r.Held }) }

func (o Observation) sum(of func(RouteState) int) int {
	n := 0
	for _, r := range o.Routes {
		n += of(r)
	}
	return n
}

// Sort puts everything into the order in which it is shown: routes by app and address, servers by dyno, the current one first.
func (o Observation) Sort() {
	slices.SortFunc(o.Routes, func(a, b RouteState) int {
		return cmp.Or(cmp.Compare(a.App, b.App), a.Key.Compare(b.Key))
	})
	for _, r := range o.Routes {
		slices.SortFunc(r.Servers, func(a, b ServerState) int {
			return cmp.Or(cmp.Compare(a.Dyno, b.Dyno), CompareBool(a.Old, b.Old), cmp.Compare(a.Container, b.Container), a.Addr.Compare(b.Addr))
		})
	}
}

// CompareBool has false before true.
func CompareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// fewConnections are so few that a limit must have been left as it was by mistake.
const fewConnections = 1000

// HasFew tells whether the engine can have so few connections that its limit is a mistake, and fewer than it was asked for; 0 asks for as
// many as can be had.
func (o Observation) HasFew(asked int) bool {
	return o.MaxConnections < fewConnections && (asked == 0 || o.MaxConnections < asked)
}
