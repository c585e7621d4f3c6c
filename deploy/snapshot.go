package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Trust says how far a source's containers can be relied on. All but fresh ones may only take away.
type Trust int

const (
	// None: the source can't be asked, and has told nothing.
	None Trust = iota
	// Stale: the source has told them, and can't be asked now, or has told of changes since.
	Stale
	// Fresh: the source has just told them.
	Fresh
)

// Snapshot is all that a plan is made of, besides the evidence of probes.
type Snapshot struct {
	// Apps are what Dokku and the operator want.
	Apps []App
	// Endpoints are those that the source tells of, as far as Trust says.
	Endpoints []Endpoint
	Trust     Trust
	// Serving is what the engine says that it serves, nil where it can't be asked.
	Serving map[Frontend]RouteState
}

// Evidence is what probes have found out: for each address that was asked nil, or why it does not accept.
type Evidence map[netip.AddrPort]error

// accepts tells whether an address was asked and accepts.
func (e Evidence) accepts(addr netip.AddrPort) bool {
	err, asked := e[addr]
	return asked && err == nil
}

// lack is why an address could not be asked, for a lack of this host's.
func (e Evidence) lack(addr netip.AddrPort) error {
	if err := e[addr]; err != nil {
		if _, lack := HostLack(err); lack {
			return err
		}
	}
	return nil
}

// read reads as much of the snapshot as it can.
func (r *Reconciler) read(ctx context.Context) (s Snapshot, err error) {
	if s.Apps, err = r.Host.Apps(ctx); err != nil {
		return Snapshot{}, err
	}
	s.Trust = Fresh
	// A host without public ports needs no Docker either.
	if slices.ContainsFunc(s.Apps, App.Involved) {
		if s.Endpoints, err = r.Source.Endpoints(ctx); err != nil {
			s.Trust = None
		}
	}
	var servingErr error
	s.Serving, servingErr = r.serving(ctx)
	return s, errors.Join(err, servingErr)
}

// serving asks the engine; it is nil with an error.
func (r *Reconciler) serving(ctx context.Context) (map[Frontend]RouteState, error) {
	o, err := r.Engine.Observe(ctx)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", r.Engine.Name(), err)
	}
	return o.Serving(), nil
}
