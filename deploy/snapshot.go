package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Snapshot is all that a plan is made of, besides the evidence of probes.
type Snapshot struct {
	// Apps are what Dokku and the operator want.
	Apps []App
	// Sources are what each source tells, by its name.
	Sources map[string]Listing
	// Serving is what the engine says that it serves, nil where it can't be asked.
	Serving map[Key]RouteState
}

// Evidence is what probes have found out: for each address that was asked nil, or why it does not accept.
type Evidence map[Address]error

// accepts tells whether an address was asked and accepts.
func (e Evidence) accepts(addr Address) bool {
	err, asked := e[addr]
	return asked && err == nil
}

// lack is why an address could not be asked, for a lack of this host's.
func (e Evidence) lack(addr Address) error {
	if err := e[addr]; err != nil {
		if _, lack := HostLack(err); lack {
			return err
		}
	}
	return nil
}

// anyFresh tells whether a source has just been asked.
func (s Snapshot) anyFresh() bool {
	for _, l := range s.Sources {
		if l.Trust == Fresh {
			return true
		}
	}
	return false
}

// doubted is the snapshot with nothing in it that is trusted to add a server.
func (s Snapshot) doubted() Snapshot {
	return s.mapped(func(l Listing) Listing { return Listing{l.Endpoints, min(l.Trust, Stale)} })
}

// without is the snapshot with some endpoints, by id, that do not run any more. They are still there: a pod that is not ready holds its
// app's ports open.
func (s Snapshot) without(ids []string) Snapshot {
	return s.mapped(func(l Listing) Listing {
		l.Endpoints = slices.Clone(l.Endpoints)
		for i := range l.Endpoints {
			if e := &l.Endpoints[i]; slices.Contains(ids, e.ID) {
				e.Running = false
			}
		}
		return l
	})
}

func (s Snapshot) mapped(change func(Listing) Listing) Snapshot {
	sources := make(map[string]Listing, len(s.Sources))
	for name, l := range s.Sources {
		sources[name] = change(l)
	}
	s.Sources = sources
	return s
}

// read reads as much of the snapshot as it can. That a source can't be asked is lost, and no error: what it knows has no trust then.
func (r *Reconciler) read(ctx context.Context) (s Snapshot, lost, err error) {
	if s.Apps, err = r.Host.Apps(ctx); err != nil {
		return Snapshot{}, nil, err
	}
	s.Sources = make(map[string]Listing, len(r.Sources))
	for name, source := range r.Sources {
		// A host without public ports needs no Docker either.
		if !slices.ContainsFunc(s.Apps, func(a App) bool { return a.Needs(name) && a.Involved() }) {
			continue
		}
		endpoints, err := source.Endpoints(ctx)
		if err != nil {
			lost = errors.Join(lost, err)
			continue
		}
		s.Sources[name] = Listing{endpoints, Fresh}
	}
	s.Serving, err = r.serving(ctx)
	return s, lost, err
}

// reduced is the error of sources that could not be asked.
func (s Snapshot) reduced(lost error) *ReducedError {
	e := &ReducedError{Err: lost}
	for _, a := range s.Apps {
		if a.Involved() && a.trust(s.Sources) != Fresh {
			e.Apps = append(e.Apps, a.Name)
		}
	}
	return e
}

// serving asks the engine; it is nil with an error.
func (r *Reconciler) serving(ctx context.Context) (map[Key]RouteState, error) {
	o, err := r.Engine.Observe(ctx)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", r.Engine.Name(), err)
	}
	return o.Serving(), nil
}
