package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrUnsupported is what an engine's Supports returns, wrapped, of a route that the engine can't serve on any host.
var ErrUnsupported = errors.New("not supported")

// AskOther bounds the wait for the engine that is not in force: neither a deploy nor what closes something depends on it.
const AskOther = 2 * time.Second

// Engines is the engine in force, with another one beside it that serves what the first one does not support, and nothing else: it may
// have served everything before.
type Engines struct {
	InForce, Other Engine
	// Fallback tells that routes may go to the other engine.
	Fallback bool
	// Warn is told that the other engine can't be asked. That is no reason not to go on: the engine in force can't have what the other one
	// still listens on, which is an error of its own.
	Warn func(error)

	// other is what the other engine serves, nil where it has not been asked since the last table.
	other *Observation
}

// Name implements [Engine].
func (e *Engines) Name() string { return e.InForce.Name() }

// Supports implements [Engine].
func (e *Engines) Supports(r Route) error {
	if e.isForOther(r) {
		return e.Other.Supports(r)
	}
	return e.InForce.Supports(r)
}

func (e *Engines) isForOther(r Route) bool {
	return e.Fallback && errors.Is(e.InForce.Supports(r), ErrUnsupported)
}

// Observe implements [Engine]. What the other engine serves and should not is left out.
func (e *Engines) Observe(ctx context.Context, aspects ...Aspect) (Observation, error) {
	o, err := e.InForce.Observe(ctx, aspects...)
	if err != nil || !e.Fallback {
		return o, err
	}
	e.askOther(ctx, aspects...)
	routes := make([]Route, 0, len(e.other.Routes))
	for _, r := range e.other.Routes {
		routes = append(routes, Route{App: r.App, Process: r.Process, Key: r.Key, Options: r.Options})
	}
	isForOther, beside := e.forOther(routes), false
	for _, r := range e.other.Routes {
		if isForOther(r.Key) {
			o.Routes, beside = append(o.Routes, r), true
		}
	}
	if beside {
		o.Processes, o.Old = append(o.Processes, e.other.Processes...), append(o.Old, e.other.Old...)
	}
	o.Unrecognized += e.other.Unrecognized
	return o, nil
}

// forOther returns a function that tells which of the routes are for the other engine: those that have a frontend in common go together.
func (e *Engines) forOther(routes []Route) func(Key) bool {
	frontends := make(map[Frontend]bool)
	for _, r := range routes {
		if e.isForOther(r) {
			frontends[r.Key.Frontend()] = true
		}
	}
	return func(k Key) bool { return frontends[k.Frontend()] }
}

// Split returns the part of a table that the engine in force serves, and the part that the other one serves beside it.
func (e *Engines) Split(t Table) (own, others Table) {
	own, others = t, t
	own.Routes, others.Routes = nil, nil
	isForOther := e.forOther(t.Routes)
	for _, r := range t.Routes {
		if isForOther(r.Key) {
			others.Routes = append(others.Routes, r)
		} else {
			own.Routes = append(own.Routes, r)
		}
	}
	return own, others
}

// askOther finds out what the other engine serves. One that can't be asked is taken to serve nothing.
func (e *Engines) askOther(ctx context.Context, aspects ...Aspect) {
	bounded, cancel := context.WithTimeout(ctx, AskOther)
	defer cancel()
	o, err := e.Other.Observe(bounded, aspects...)
	if err != nil {
		o = Observation{}
	}
	if err != nil && ctx.Err() == nil {
		e.Warn(fmt.Errorf("whether the engine %s, which is not in force, still has ports is not known: %w", e.Other.Name(), err))
	}
	e.other = &o
}

// Apply implements [Engine]. The other engine gives up what is not its own before the engine in force opens anything.
func (e *Engines) Apply(ctx context.Context, t Table) (Applied, error) {
	own, others := e.Split(t)
	if e.other == nil {
		e.askOther(ctx)
	}
	serves := e.other.Serving()
	page := e.other.Page.IsValid()
	e.other = nil // asked anew before the next table
	stays := others
	stays.Routes = slices.DeleteFunc(slices.Clone(others.Routes), func(r Route) bool { return serves[r.Key].App != r.App })
	if len(stays.Routes) < len(serves) || page {
		if _, err := e.Other.Apply(ctx, stays); err != nil && !errors.Is(err, ErrNotRunning) {
			return Applied{}, fmt.Errorf("take the public ports from the engine %s, which is not in force: %w", e.Other.Name(), err)
		}
	}
	applied, err := e.InForce.Apply(ctx, own)
	if len(others.Routes) == 0 {
		return applied, err
	}
	beside, otherErr := e.Other.Apply(ctx, others)
	routes, rest := splitRouteErrors(otherErr)
	errs := []error{err}
	for _, r := range routes {
		errs = append(errs, r)
	}
	for _, r := range others.Routes {
		if rest != nil {
			errs = append(errs, &RouteError{App: r.App, Key: r.Key, Err: fmt.Errorf("engine %s: %w", e.Other.Name(), rest)})
		}
	}
	return applied.and(beside), errors.Join(errs...)
}

// CutOld implements [Engine].
func (e *Engines) CutOld(ctx context.Context, limits map[string]time.Duration) ([]Cut, error) {
	cut, err := e.InForce.CutOld(ctx, limits)
	if !e.Fallback {
		return cut, err
	}
	beside, otherErr := e.Other.CutOld(ctx, limits)
	return slices.Concat(cut, beside), errors.Join(err, otherErr)
}
