package deploy

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// Source knows endpoints, and tells when they change.
type Source interface {
	// Endpoints returns those of all apps, stopped ones too.
	Endpoints(ctx context.Context) ([]Endpoint, error)

	// Watch calls changed whenever endpoints may have changed, with the id of one that has died, else "". It calls subscribed once no
	// change can be missed any more. It returns when ctx ends, when subscribed returns an error, or when the source is lost.
	Watch(ctx context.Context, subscribed func() error, changed func(died string)) error
}

// ErrUnreachable is what the error of a source is that can't be asked at all: see [Unreachable].
var ErrUnreachable = errors.New("not reachable")

// Unreachable is the error that somebody, "the Docker engine", can't be asked.
type Unreachable string

func (u Unreachable) Error() string { return string(u) + " is not reachable" }

// Is makes it an [ErrUnreachable].
func (u Unreachable) Is(target error) bool { return target == ErrUnreachable }

// Trust says how far a source's endpoints can be relied on. All but fresh ones may only take away.
type Trust int

const (
	// None: the source can't be asked, and has told nothing. What is served for its apps goes on, and an engine that serves nothing at
	// all holds connections for them. A port that an app certainly does not ask for any more is closed.
	None Trust = iota
	// Stale: the source has told them, and can't be asked now, or has told of changes since. What is served goes on, as far as it is
	// one of them.
	Stale
	// Fresh: the source has just told them.
	Fresh
)

// Listing is what one source tells.
type Listing struct {
	Endpoints []Endpoint
	Trust     Trust
}

// Endpoints are those of all listings.
func Endpoints(listings map[string]Listing) (list []Endpoint) {
	for _, name := range slices.Sorted(maps.Keys(listings)) {
		list = append(list, listings[name].Endpoints...)
	}
	return list
}
