package deploy

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
)

// ErrNotRunning is what an engine's Apply returns, wrapped with how to start it, when its process does not run. What it
// was given is written down and is in force as soon as it starts.
var ErrNotRunning = errors.New("not running")

// Engine makes a table real.
type Engine interface {
	// Name is the word for it in the setting `engine`.
	Name() string

	// Serving returns what the engine itself says that it sends new connections to, for each public address that it
	// listens on. It is read from the engine each time, never remembered. An engine that does not run serves nothing:
	// that is an empty map and no error.
	Serving(ctx context.Context) (map[Listen]Service, error)

	// Apply makes t real and returns when it is: after that no new connection reaches a server that t does not name,
	// established connections stay where they are, and addresses that t does not name are not listened on.
	//
	// A route that can't be made real (its port is taken) is reported as a *RouteError, joined with others' (errors.Join),
	// and left as it was, or not listened on; all other routes are applied. Any other error means that what was in force
	// before is in force still.
	Apply(ctx context.Context, t Table) (Applied, error)
}

// Service is what an engine says of one public address that it listens on.
type Service struct {
	// App is the app that the route was applied for.
	App string
	// Process is the process type that the route was applied for, "" where the engine can't tell.
	Process string
	// Servers are the addresses that get new connections; it may be none.
	Servers []netip.AddrPort
	// Down are the others that the route leads to. Each was seen to refuse or to be silent, and gets no connection until a table
	// proves it again: the engine can tell that something accepts there, not whose container it is by then.
	Down []netip.AddrPort
	// Options are the route's as it was applied. An engine that can't tell says that nobody is let in: whoever keeps a route
	// as it is must not open it.
	Options Options
}

// all are the addresses that the route leads to, or may at any moment.
func (s Service) all() []netip.AddrPort { return slices.Concat(s.Servers, s.Down) }

// carried tells whether the service gives connections to addr for the former name of app, in the midst of a rename: a route of the new
// name is another one, of which the engine knows nothing yet.
func (s Service) carried(app string, addr netip.AddrPort) bool {
	return s.App != app && slices.Contains(s.Servers, addr)
}

// Applied says what an Apply did.
type Applied struct {
	// Switched names the public addresses whose servers changed.
	Switched []Listen
	// Reload is the reason of a reload, "" when there was none.
	Reload string
	// Cut are the connections that the time limit of their routes has ended; Unended is why others go on that should have been ended.
	// The table is in force all the same.
	Cut     []Cut `json:"-"`
	Unended error `json:"-"`
}

// Cut counts the connections on former servers of a route that the engine has ended, without those that ended by themselves.
type Cut struct {
	App         string
	Listen      Listen
	Connections int
}

// and is what two Applies in a row did.
func (a Applied) and(b Applied) Applied {
	switched := slices.Concat(a.Switched, b.Switched)
	slices.SortFunc(switched, Listen.Compare)
	return Applied{
		Switched: slices.Compact(switched), Reload: cmp.Or(b.Reload, a.Reload),
		Cut: slices.Concat(a.Cut, b.Cut), Unended: b.Unended,
	}
}
