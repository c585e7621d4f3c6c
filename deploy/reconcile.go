package deploy

import (
	"context"
	"errors"
	"fmt"
)

// Reconciler makes the host's routes what Dokku, the operator and Docker say that they should be.
type Reconciler struct {
	Host Host
	// Sources are those of the apps, by name.
	Sources map[string]Source
	Engine  Engine
}

// Outcome is what a reconcile found and did.
type Outcome struct {
	Table    Table
	Applied  Applied
	Problems []*Problem
	// Refused tells that some of them are the engine's, which could not make a route real: the reason may go away by itself.
	Refused bool
	// Sources are what the sources told that could be asked, by name.
	Sources map[string]Listing
	// Apps are what the host told of, nil where a source could not be asked: problems of apps are not all known then.
	Apps []App
}

// Of returns the routes and the problems of one app.
func (o Outcome) Of(app string) (routes []Route, problems []*Problem) {
	for _, r := range o.Table.Routes {
		if r.App == app {
			routes = append(routes, r)
		}
	}
	for _, p := range o.Problems {
		if p.App == app {
			problems = append(problems, p)
		}
	}
	return routes, problems
}

// errUnlocked is a mistake of the caller's.
var errUnlocked = errors.New("reconcile without the host-wide lock")

// Reconcile reads everything anew, plans and applies. The caller holds the host-wide lock: what it changed under that lock and what is
// applied belong together.
//
// Problems of single apps and routes are in the outcome; they never keep other routes from being applied. An error means
// that nothing could be applied, and what was in force before is in force still; a *ReducedError means that a source could not be asked,
// and the apps of that source have lost only what they ask for no more.
func (r *Reconciler) Reconcile(ctx context.Context, lock *Lock) (Outcome, error) {
	if !lock.held() {
		return Outcome{}, errUnlocked
	}
	s, lost, err := r.read(ctx)
	if err != nil {
		return Outcome{}, errors.Join(lost, err)
	}
	outcome, err := r.apply(ctx, s)
	if lost == nil {
		outcome.Apps = s.Apps
		return outcome, err
	}
	if err == nil && !outcome.Refused {
		lost = s.reduced(lost)
	}
	return outcome, errors.Join(lost, err)
}

// apply plans and applies.
func (r *Reconciler) apply(ctx context.Context, s Snapshot) (outcome Outcome, err error) {
	outcome.Sources = s.Sources
	if first := First(s); first != nil {
		// Its errors come again below, where they are reported. A route that is merely not wanted any more is closed below, in the same
		// step in which others open: each such step may be a reload.
		if outcome.Applied, err = r.Engine.Apply(ctx, *first); err == nil {
			outcome.Table = *first
		}
	}
	plan, err := probed(ctx, s)
	if err != nil {
		return outcome, err
	}
	first, inForce := outcome.Applied, outcome.Table
	outcome.Table, outcome.Problems = plan.Table, plan.Problems
	outcome.Applied, err = r.Engine.Apply(ctx, plan.Table)
	outcome.Applied = first.and(outcome.Applied)
	if len(plan.Table.Routes) == 0 && errors.Is(err, ErrNotRunning) {
		// A host without routes needs no engine.
		err = nil
	}
	routeErrors, rest := splitRouteErrors(err)
	outcome.Refused = len(routeErrors) > 0
	for _, e := range routeErrors {
		outcome.Problems = append(outcome.Problems, &Problem{App: e.App, Key: e.Key, Err: e.Err})
	}
	if unended := outcome.Applied.Unended; unended != nil {
		outcome.Problems = append(outcome.Problems, &Problem{Err: fmt.Errorf("%w: %w", ErrUnended, unended)})
	}
	if rest != nil {
		// Nobody must take the table for what is in force.
		outcome.Table = inForce
		return outcome, fmt.Errorf("engine %s: %w", r.Engine.Name(), rest)
	}
	return outcome, nil
}

// ReducedError is why a source could not be asked, where all that does not need it has been done.
type ReducedError struct {
	Err error
	// Apps are those that need it.
	Apps []string
}

func (e *ReducedError) Error() string { return e.Err.Error() }
func (e *ReducedError) Unwrap() error { return e.Err }

// Known is what a [Reconciler.Reduce] goes by.
type Known struct {
	// Fresh has the sources asked: whatever they do not say to be its app's is taken out of service.
	Fresh bool
	// Sources are what each told last.
	Sources map[string]Listing
	Loss
	// Probe tells of which apps the servers are asked whether they accept connections, and those that don't taken out of service; nil of
	// none.
	Probe func(app string) bool
	// Hold has an engine that serves nothing hold connections, as one does that has just started.
	Hold bool
}

// Reduce takes out of service what is gone, by what is known, and does nothing else. A server that was taken out stays out until a
// reconcile: meanwhile nobody can tell that a container at its address is the same.
func (r *Reconciler) Reduce(ctx context.Context, lock *Lock, known Known) (Outcome, error) {
	if !lock.held() {
		return Outcome{}, errUnlocked
	}
	if known.Fresh {
		s, lost, err := r.read(ctx)
		if err = errors.Join(lost, err); err != nil {
			return Outcome{}, err
		}
		outcome, err := r.take(ctx, Reduce(s, known.Loss))
		outcome.Apps, outcome.Sources = s.Apps, s.Sources
		return outcome, err
	}
	s := Snapshot{Sources: known.Sources}.doubted()
	var err error
	if s.Serving, err = r.serving(ctx); err != nil {
		return Outcome{}, err
	}
	if known.Probe != nil && len(s.Serving) > 0 {
		known.Gone = gone(ctx, s, known.Probe)
		if len(known.Gone) == 0 || ctx.Err() != nil {
			return Outcome{}, ctx.Err()
		}
	} else if known.Probe != nil && !known.Hold {
		return Outcome{}, nil
	}
	if s.Apps, err = r.Host.Apps(ctx); err != nil {
		return Outcome{}, err
	}
	return r.take(ctx, Reduce(s, known.Loss))
}

// Close closes the addresses that are given up, and does nothing else.
func (r *Reconciler) Close(ctx context.Context, lock *Lock, givenUp func(app string, f Key) bool) (Outcome, error) {
	if !lock.held() {
		return Outcome{}, errUnlocked
	}
	var s Snapshot
	var err error
	if s.Serving, err = r.serving(ctx); err != nil {
		return Outcome{}, err
	}
	if s.Apps, err = r.Host.Apps(ctx); err != nil {
		return Outcome{}, err
	}
	return r.take(ctx, Without(s, givenUp))
}

// take applies a table that is less than what is served; nil is nothing to do.
func (r *Reconciler) take(ctx context.Context, table *Table) (Outcome, error) {
	if table == nil {
		return Outcome{}, nil
	}
	applied, err := r.Engine.Apply(ctx, *table)
	if err != nil {
		return Outcome{}, fmt.Errorf("engine %s: %w", r.Engine.Name(), err)
	}
	return Outcome{Table: *table, Applied: applied}, nil
}

// Preview is the table that Reconcile would apply, and what keeps it from being what was asked for.
func (r *Reconciler) Preview(ctx context.Context) (Table, []*Problem, error) {
	s, lost, err := r.read(ctx)
	if err = errors.Join(lost, err); err != nil {
		return Table{}, nil, err
	}
	plan, err := probed(ctx, s)
	return plan.Table, plan.Problems, err
}

// splitRouteErrors takes the errors of single routes out of what an engine returned.
func splitRouteErrors(err error) (routes []*RouteError, rest error) {
	switch e := err.(type) { //nolint:errorlint // one level at a time is the point
	case nil:
		return nil, nil
	case *RouteError:
		return []*RouteError{e}, nil
	case interface{ Unwrap() []error }:
		var others []error
		for _, one := range e.Unwrap() {
			r, other := splitRouteErrors(one)
			routes = append(routes, r...)
			others = append(others, other)
		}
		if len(routes) > 0 {
			return routes, errors.Join(others...)
		}
		// Not taken apart: the text around several wrapped errors would be lost.
	}
	return nil, err
}
