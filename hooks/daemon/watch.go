package daemon

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

// The pause between two attempts to reach a source doubles from the first to the last, which leaves time to heal within a second.
const firstSearch, lastSearch = 100 * time.Millisecond, 500 * time.Millisecond

// absence is how often a source is looked for that this host does not have.
const absence = time.Second

// watchers watch all sources.
type watchers struct {
	all []*watcher
	// main is the name of the source that is always needed: most hosts have no other one.
	main string
}

func newWatchers(sources map[string]deploy.Source, main string, log *slog.Logger, poke func(died string)) *watchers {
	ws := &watchers{main: main}
	for name, source := range sources {
		w := &watcher{Source: source, name: name, log: log, poke: poke}
		w.away.Store(true)
		w.needed.Store(name == main)
		ws.all = append(ws.all, w)
	}
	return ws
}

// run watches until ctx ends.
func (ws *watchers) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, w := range ws.all {
		all.Go(func() { w.run(ctx) })
	}
	all.Wait()
}

// sources are the watched ones, by name.
func (ws *watchers) sources() map[string]deploy.Source {
	sources := make(map[string]deploy.Source, len(ws.all))
	for _, w := range ws.all {
		sources[w.name] = w
	}
	return sources
}

// lost are the sources that an app needs and that can't be asked now; all tells that there is no other one.
func (ws *watchers) lost() (names []string, all bool) {
	all = true
	for _, w := range ws.all {
		switch {
		case !w.needed.Load():
		case w.away.Load():
			names = append(names, w.name)
		default:
			all = false
		}
	}
	return names, all
}

// missed tells that one of these was asked in vain.
func (ws *watchers) missed() bool {
	return slices.ContainsFunc(ws.all, func(w *watcher) bool { return w.needed.Load() && w.missed.Load() })
}

// forget begins to note which sources are asked.
func (ws *watchers) forget() {
	for _, w := range ws.all {
		w.asked.Store(false)
	}
}

// settle takes those that were asked since for the ones that apps need.
func (ws *watchers) settle() {
	for _, w := range ws.all {
		w.needed.Store(w.asked.Load() || w.name == ws.main)
	}
}

// watcher hears of a source's changes for the daemon, and knows whether the source can be asked.
type watcher struct {
	deploy.Source
	name string
	log  *slog.Logger
	// poke is called for each change, and whenever the source is lost or there again.
	poke func(died string)
	// asked tells that somebody has asked for the endpoints, needed that some app has any.
	asked, needed atomic.Bool
	// away is true until the source has told of its endpoints, and again from when it is lost. A socket that accepts proves nothing:
	// systemd's does so without a Docker behind it.
	away atomic.Bool
	// missed tells that it was asked in vain.
	missed atomic.Bool

	mu sync.Mutex
	// stream ends with the changes, cancel ends both; why is the reason that there are none.
	stream context.Context
	cancel context.CancelCauseFunc
	why    error
}

// run watches until ctx ends. The pause between attempts doubles until the source is there.
func (w *watcher) run(ctx context.Context) {
	pause := firstSearch
	for ctx.Err() == nil {
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		w.why = err
		w.mu.Unlock()
		lost := !w.away.Swap(true)
		if !w.needed.Load() && errors.Is(err, fs.ErrNotExist) {
			host.Sleep(ctx, absence)
			continue
		}
		if !w.missed.Swap(true) {
			w.log.Error(w.name, "error", err)
			pause, lost = firstSearch, true
		}
		if lost {
			w.poke("")
		}
		host.Sleep(ctx, pause)
		pause = min(2*pause, lastSearch)
	}
}

func (w *watcher) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.mu.Lock()
	w.stream, w.cancel = ctx, cancel
	w.mu.Unlock()
	err := w.Source.Watch(ctx, func() error {
		if _, err := w.Source.Endpoints(ctx); err != nil {
			return err
		}
		w.log.Info("watching " + w.name)
		w.missed.Store(false)
		w.away.Store(false)
		w.poke("")
		return nil
	}, w.poke)
	// It may be a question that found the source lost.
	return cmp.Or(context.Cause(ctx), err)
}

// Endpoints implements [deploy.Source]. It ends with the watch: whoever waits holds the host-wide lock, and there are servers to
// be looked after when the source is lost. One that is lost is not asked, but looked for anew.
func (w *watcher) Endpoints(ctx context.Context) ([]deploy.Endpoint, error) {
	w.asked.Store(true)
	w.mu.Lock()
	stream, cancel, why := w.stream, w.cancel, w.why
	w.mu.Unlock()
	if stream == nil {
		return w.Source.Endpoints(ctx)
	}
	if w.away.Load() && why != nil {
		return nil, why
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(stream, stop)()
	endpoints, err := w.Source.Endpoints(ctx)
	if errors.Is(err, deploy.ErrUnreachable) && !w.away.Swap(true) {
		cancel(err)
		w.poke("")
	}
	return endpoints, err
}
