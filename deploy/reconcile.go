package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Reconciler makes the host's routes what Dokku, the operator and Docker say that they should be.
type Reconciler struct {
	Host   Host
	Docker Docker
	Engine Engine
}

// Outcome is what a reconcile found and did.
type Outcome struct {
	Table    Table
	Applied  Applied
	Problems []*Problem
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

// Reconcile reads the truth anew, builds the table and applies it. The caller holds the host-wide lock: what it changed
// under that lock and what is applied belong together.
//
// Problems of single apps and routes are in the outcome; they never keep other routes from being applied. An error means
// that nothing could be applied: what was in force before is in force still.
func (r *Reconciler) Reconcile(ctx context.Context, lock *Lock) (Outcome, error) {
	if !lock.held() {
		return Outcome{}, errors.New("reconcile without the host-wide lock")
	}
	table, problems, err := r.Plan(ctx)
	if err != nil {
		return Outcome{}, err
	}
	outcome := Outcome{Table: table, Problems: problems}
	outcome.Applied, err = r.Engine.Apply(ctx, table)
	if len(table.Routes) == 0 && errors.Is(err, ErrNotRunning) {
		// A host without routes needs no engine.
		err = nil
	}
	routeErrors, rest := splitRouteErrors(err)
	for _, e := range routeErrors {
		outcome.Problems = append(outcome.Problems, &Problem{App: e.App, Listen: e.Listen, Err: e.Err})
	}
	if rest != nil {
		return outcome, fmt.Errorf("engine %s: %w", r.Engine.Name(), rest)
	}
	return outcome, nil
}

// Plan is the table that Reconcile would apply, and what keeps it from being what was asked for.
func (r *Reconciler) Plan(ctx context.Context) (Table, []*Problem, error) {
	apps, err := r.Host.Apps(ctx)
	if err != nil {
		return Table{}, nil, err
	}
	var containers []Container
	// A host without public ports needs no Docker either.
	if slices.ContainsFunc(apps, App.Involved) {
		if containers, err = r.Docker.Containers(ctx); err != nil {
			return Table{}, nil, err
		}
	}
	serving, err := r.Engine.Serving(ctx)
	if err != nil {
		return Table{}, nil, fmt.Errorf("engine %s: %w", r.Engine.Name(), err)
	}
	table, problems := Build(ctx, apps, containers, serving)
	if err := ctx.Err(); err != nil {
		// What could not be asked in time must not look like what said no.
		return Table{}, nil, err
	}
	return table, problems, nil
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
		return routes, errors.Join(others...)
	}
	return nil, err
}
