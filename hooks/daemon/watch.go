package daemon

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

// The pause between two attempts to reach Docker doubles from the first to the last, which leaves time to heal within a second.
const firstSearch, lastSearch = 100 * time.Millisecond, 500 * time.Millisecond

// watcher hears of Docker's events for the daemon, and knows whether Docker can be asked.
type watcher struct {
	deploy.Source
	log *slog.Logger
	// poke is called for each event, and whenever Docker is lost or there again.
	poke func(died string)
	// away is true until Docker has told of its containers, and again from when it is lost. A socket that accepts proves nothing:
	// systemd's does so without a Docker behind it.
	away atomic.Bool
	// missed tells that Docker was asked in vain.
	missed atomic.Bool

	mu sync.Mutex
	// stream ends with the events, cancel ends both.
	stream context.Context
	cancel context.CancelFunc
}

func newWatcher(source deploy.Source, log *slog.Logger, poke func(died string)) *watcher {
	w := &watcher{Source: source, log: log, poke: poke}
	w.away.Store(true)
	return w
}

// run watches until ctx ends. The pause between attempts doubles until Docker is there.
func (w *watcher) run(ctx context.Context) {
	pause := firstSearch
	for ctx.Err() == nil {
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		w.away.Store(true)
		if !w.missed.Swap(true) {
			w.log.Error("docker", "error", err)
			pause = firstSearch
		}
		w.poke("")
		host.Sleep(ctx, pause)
		pause = min(2*pause, lastSearch)
	}
}

func (w *watcher) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	w.stream, w.cancel = ctx, cancel
	w.mu.Unlock()
	return w.Source.Watch(ctx, func() error {
		if _, err := w.Source.Endpoints(ctx); err != nil {
			return err
		}
		w.log.Info("watching Docker")
		w.missed.Store(false)
		w.away.Store(false)
		w.poke("")
		return nil
	}, w.poke)
}

// lose is for a Docker that does not answer although its events have not ended. It is looked for anew.
func (w *watcher) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away.Store(true)
	if w.cancel != nil {
		w.cancel()
	}
}

// Endpoints implements [deploy.Source]. It ends with the events: whoever waits holds the host-wide lock, and there are servers to
// be looked after when Docker is lost.
func (w *watcher) Endpoints(ctx context.Context) ([]deploy.Endpoint, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	stream := w.stream
	w.mu.Unlock()
	if stream != nil {
		defer context.AfterFunc(stream, cancel)()
	}
	return w.Source.Endpoints(ctx)
}
