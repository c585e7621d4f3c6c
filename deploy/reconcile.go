package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"
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
	// Refused tells that some of them are the engine's, which could not make a route real: the reason may go away by itself.
	Refused bool
	// Containers are what Docker told of, nil when nothing had to be asked.
	Containers []Container
	// Apps are what the host told of.
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

// Reconcile reads the truth anew, builds the table and applies it. The caller holds the host-wide lock: what it changed
// under that lock and what is applied belong together.
//
// Problems of single apps and routes are in the outcome; they never keep other routes from being applied. An error means
// that nothing could be applied: what was in force before is in force still, but for addresses that nobody asks for any more, which
// are closed even where Docker can't be asked.
func (r *Reconciler) Reconcile(ctx context.Context, lock *Lock) (Outcome, error) {
	if !lock.held() {
		return Outcome{}, errUnlocked
	}
	t, err := r.read(ctx)
	if err != nil {
		outcome, closeErr := r.close(ctx, t.apps, t.serving, unasked(t.apps))
		return outcome, errors.Join(err, closeErr, r.listen(ctx, t))
	}
	outcome := Outcome{Apps: t.apps, Containers: t.containers}
	if t.servesUnconfirmed() {
		// What is gone goes first. Its errors come again below, where they are reported. A route that is merely not wanted any more
		// is closed below, in the same step in which others open: each such step may be a reload.
		var err error
		confirmed := Confirmed(t.apps, t.containers, t.serving)
		if outcome.Applied, err = r.Engine.Apply(ctx, confirmed); err == nil {
			outcome.Table = confirmed
		}
	}
	table, problems, err := t.build(ctx)
	if err != nil {
		return outcome, err
	}
	first, inForce := outcome.Applied, outcome.Table
	outcome.Table, outcome.Problems = table, problems
	outcome.Applied, err = r.Engine.Apply(ctx, table)
	outcome.Applied = first.and(outcome.Applied)
	if len(table.Routes) == 0 && errors.Is(err, ErrNotRunning) {
		// A host without routes needs no engine.
		err = nil
	}
	routeErrors, rest := splitRouteErrors(err)
	outcome.Refused = len(routeErrors) > 0
	for _, e := range routeErrors {
		outcome.Problems = append(outcome.Problems, &Problem{App: e.App, Listen: e.Listen, Err: e.Err})
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

// Confirm takes servers out of service that Docker does not say to be their app's, and does nothing else.
func (r *Reconciler) Confirm(ctx context.Context, lock *Lock) (Outcome, error) {
	if !lock.held() {
		return Outcome{}, errUnlocked
	}
	t, err := r.read(ctx)
	if err != nil {
		return Outcome{}, err
	}
	outcome := Outcome{Apps: t.apps, Containers: t.containers}
	if table := Confirmed(t.apps, t.containers, t.serving); table.lacks(t.serving) {
		reduced, err := r.reduce(ctx, table)
		outcome.Table, outcome.Applied = reduced.Table, reduced.Applied
		return outcome, err
	}
	return outcome, nil
}

// Listen has an engine that has just started hold connections, while Docker can't be asked whose containers are where. One that
// serves something goes on with it.
func (r *Reconciler) Listen(ctx context.Context, lock *Lock) (Outcome, error) {
	if !lock.held() {
		return Outcome{}, errUnlocked
	}
	apps, err := r.Host.Apps(ctx)
	if err != nil {
		return Outcome{}, err
	}
	serving, err := r.serving(ctx)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{}, r.listen(ctx, truth{apps: apps, serving: serving})
}

func (r *Reconciler) listen(ctx context.Context, t truth) error {
	if len(t.apps) == 0 || t.serving == nil || len(t.serving) > 0 {
		return nil
	}
	_, err := r.Engine.Apply(ctx, Unserved(t.apps))
	return err
}

// Drop takes the servers of containers out of service that have died, without asking anybody for more: their addresses may be
// another app's in a moment. known are the containers as Docker told of them last. Where something is served that is none of
// theirs they are out of date, and nothing is done: a reconcile has to find out.
func (r *Reconciler) Drop(ctx context.Context, lock *Lock, known []Container, died []string) (Outcome, error) {
	if !lock.held() {
		return Outcome{}, errUnlocked
	}
	serving, err := r.serving(ctx)
	if err != nil {
		return Outcome{}, err
	}
	apps, err := r.Host.Apps(ctx)
	if err != nil || Confirmed(apps, known, serving).lacks(serving) {
		return Outcome{}, err
	}
	alive := slices.DeleteFunc(slices.Clone(known), func(c Container) bool { return slices.Contains(died, c.ID) })
	table := Confirmed(apps, alive, serving)
	if !table.lacks(serving) {
		return Outcome{}, nil
	}
	return r.reduce(ctx, table)
}

// Close closes the public addresses for which gone is true, and leaves all others as they are served. It asks nobody but the engine.
func (r *Reconciler) Close(ctx context.Context, lock *Lock, gone func(app string, l Listen) bool) (Outcome, error) {
	if !lock.held() {
		return Outcome{}, errUnlocked
	}
	apps, err := r.Host.Apps(ctx)
	if err != nil {
		return Outcome{}, err
	}
	serving, err := r.serving(ctx)
	if err != nil {
		return Outcome{}, err
	}
	return r.close(ctx, apps, serving, gone)
}

func (r *Reconciler) close(ctx context.Context, apps []App, serving map[Listen]Service, gone func(app string, l Listen) bool) (Outcome, error) {
	table := withoutGone(apps, serving, gone)
	if len(table.Routes) == len(serving) {
		return Outcome{}, nil
	}
	return r.reduce(ctx, table)
}

// reduce applies a table that has less than what is served.
func (r *Reconciler) reduce(ctx context.Context, table Table) (Outcome, error) {
	applied, err := r.Engine.Apply(ctx, table)
	if err != nil {
		return Outcome{}, fmt.Errorf("engine %s: %w", r.Engine.Name(), err)
	}
	return Outcome{Table: table, Applied: applied}, nil
}

// Withdraw takes servers out of service that do not accept connections any more, while Docker can't be asked whose addresses
// theirs are. known are the containers as they were told of last: a server that is none of them is taken out too, unless nothing
// was told yet. One that the engine has found down is not asked: what accepts there now may be another app's. Where all servers
// accept, nothing is changed.
//
// The servers of a route that wants no checks are not asked either. Only the network of a known container's own address is, at a port
// that no app has (see there): without an answer, and where Docker publishes the port or the container has the host's network, they
// are taken out.
//
// Who was taken out stays out until Docker can be asked: meanwhile nobody can tell that a container at its address is the same.
func (r *Reconciler) Withdraw(ctx context.Context, lock *Lock, known []Container) (Outcome, error) {
	if !lock.held() {
		return Outcome{}, errUnlocked
	}
	serving, err := r.serving(ctx)
	if err != nil {
		return Outcome{}, err
	}
	var addrs, gone, unasked []netip.AddrPort
	for _, service := range serving {
		if service.Options.Check == NoCheck {
			unasked = append(unasked, service.all()...)
			continue
		}
		addrs = append(addrs, service.Servers...)
		gone = append(gone, service.Down...)
	}
	own := func(addr netip.AddrPort) bool {
		return slices.ContainsFunc(known, func(c Container) bool { return c.Running && slices.Contains(c.Direct, addr.Addr()) })
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	addrs = slices.Compact(addrs)
	failed := acceptSoon(ctx, addrs)
	// A refusal is proof. No answer may be that of one that is very busy: a container that is there nevertheless goes on serving, and
	// the others get a second chance.
	var silent []netip.AddrPort
	for addr, err := range failed {
		if errors.Is(err, syscall.ECONNREFUSED) {
			gone = append(gone, addr)
		} else {
			silent = append(silent, addr)
		}
	}
	alive := there(ctx, slices.DeleteFunc(slices.Concat(silent, unasked), func(addr netip.AddrPort) bool { return !own(addr) }))
	silent = slices.DeleteFunc(silent, func(addr netip.AddrPort) bool { return alive[addr] })
	gone = slices.AppendSeq(gone, maps.Keys(acceptSoon(ctx, silent)))
	// Another route may lead to the same address, and want checks.
	gone = append(gone, slices.DeleteFunc(unasked, func(addr netip.AddrPort) bool { return alive[addr] || slices.Contains(addrs, addr) })...)
	if len(gone) == 0 || ctx.Err() != nil {
		return Outcome{}, ctx.Err()
	}
	apps, err := r.Host.Apps(ctx)
	if err != nil {
		return Outcome{}, err
	}
	table := Confirmed(apps, known, serving)
	if known == nil {
		// Nobody has been vouched for since this process began, so nobody is the worse for it.
		table = asServed(apps, serving)
	}
	for i := range table.Routes {
		servers := &table.Routes[i].Servers
		*servers = slices.DeleteFunc(*servers, func(s Server) bool { return slices.Contains(gone, s.Addr) })
	}
	return r.reduce(ctx, table)
}

// Plan is the table that Reconcile would apply, and what keeps it from being what was asked for.
func (r *Reconciler) Plan(ctx context.Context) (Table, []*Problem, error) {
	t, err := r.read(ctx)
	if err != nil {
		return Table{}, nil, err
	}
	return t.build(ctx)
}

// truth is all that a table is made of.
type truth struct {
	apps       []App
	containers []Container
	serving    map[Listen]Service
}

// read reads as much of it as it can.
func (r *Reconciler) read(ctx context.Context) (t truth, err error) {
	if t.apps, err = r.Host.Apps(ctx); err != nil {
		return truth{}, err
	}
	// A host without public ports needs no Docker either.
	if slices.ContainsFunc(t.apps, App.Involved) {
		t.containers, err = r.Docker.Containers(ctx)
	}
	var servingErr error
	t.serving, servingErr = r.serving(ctx)
	return t, errors.Join(err, servingErr)
}

// serving asks the engine; it is nil with an error.
func (r *Reconciler) serving(ctx context.Context) (map[Listen]Service, error) {
	serving, err := r.Engine.Serving(ctx)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", r.Engine.Name(), err)
	}
	return serving, nil
}

// servesUnconfirmed tells whether an address gets connections, or may at any moment, that Docker does not say to be the app's.
func (t truth) servesUnconfirmed() bool {
	b := newBuilder(t.containers, t.serving)
	apps := make(map[string]*App, len(t.apps))
	for i := range t.apps {
		apps[t.apps[i].Name] = &t.apps[i]
	}
	for _, service := range t.serving {
		var own []Server
		if a := apps[service.App]; a != nil {
			own = b.stillOwn(a, service)
		}
		if len(own) < len(service.all()) {
			return true
		}
	}
	return false
}

func (t truth) build(ctx context.Context) (Table, []*Problem, error) {
	table, problems := Build(ctx, t.apps, t.containers, t.serving)
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
		if len(routes) > 0 {
			return routes, errors.Join(others...)
		}
		// Not taken apart: the text around several wrapped errors would be lost.
	}
	return nil, err
}
