package deploy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// ErrNotRunning is what an engine's Apply returns, wrapped with how to start it, when its process does not run. What it
// was given is written down and is in force as soon as it starts.
var ErrNotRunning = errors.New("not running")

// Engine makes a table real.
type Engine interface {
	// Name is the word for it in the setting `engine`.
	Name() string

	// Supports says why the engine can't have a route on this host, whoever else does or does not; nil when it can.
	Supports(r Route) error

	// Observe asks the engine, for some aspects more than it always tells. That it does not run is no error.
	Observe(ctx context.Context, aspects ...Aspect) (Observation, error)

	// Apply makes t real and returns when it is: after that no new connection reaches a server that t does not name,
	// established connections stay where they are, and addresses that t does not name are not listened on.
	//
	// A route that can't be made real (its port is taken) is reported as a *RouteError, joined with others' (errors.Join),
	// and left as it was, or not listened on; all other routes are applied. Any other error means that what was in force
	// before is in force still.
	Apply(ctx context.Context, t Table) (Applied, error)

	// CutOld ends the connections of apps that have been on servers out of service for longer than the app's limit, and counts them. It
	// changes nothing else. An engine that does that by itself, when the time has come, has nothing to do here.
	CutOld(ctx context.Context, limits map[string]time.Duration) ([]Cut, error)
}

// Applied says what an Apply did.
type Applied struct {
	// Switched names the public addresses whose servers changed.
	Switched []Key
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
	Key         Key
	Connections int
}

// and is what two Applies in a row did.
func (a Applied) and(b Applied) Applied {
	switched := slices.Concat(a.Switched, b.Switched)
	slices.SortFunc(switched, Key.Compare)
	return Applied{
		Switched: slices.Compact(switched), Reload: cmp.Or(b.Reload, a.Reload),
		Cut: slices.Concat(a.Cut, b.Cut), Unended: b.Unended,
	}
}
