package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
	"dokku-expose/stats"
)

// pageInterval is how often the daemon looks whether its page is to be elsewhere.
const pageInterval = time.Second

// servePage serves the statistics page until ctx ends. It follows the settings by itself, which an operator may change at any
// time. It calls left when it has given up an address, which HAProxy may wait for.
func servePage(ctx context.Context, h *host.Host, counters *stats.Counters, log *slog.Logger, left func()) {
	var (
		now  stats.Options
		told string
	)
	stop := func() {}
	defer func() { stop() }()
	for {
		want, err := pageOptions(h)
		switch {
		case err != nil && err.Error() != told:
			log.Error("statistics page", "error", err)
			told = err.Error()
		case err == nil && (want.Listen != now.Listen || want.Socket != now.Socket || want.Password != now.Password):
			stop()
			if now.Listen.IsValid() {
				left()
			}
			now, told = want, ""
			want.Listening = func(is bool) {
				page := want.Listen
				if !is {
					page = netip.AddrPort{}
				}
				h.Page.Store(page)
			}
			want.Observe, want.Counters, want.Log = h.NamedCounters, counters, log
			stop = startPage(ctx, want)
		}
		if !host.Sleep(ctx, pageInterval) {
			return
		}
	}
}

// startPage serves the page until stop has returned.
func startPage(ctx context.Context, o stats.Options) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := stats.Serve(ctx, o); err != nil {
			o.Log.Error("statistics page", "error", err)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// pageOptions say where the daemon's page is to be and for whom. With HAProxy, that has the address, and the daemon is behind it.
func pageOptions(h *host.Host) (stats.Options, error) {
	name, err := h.EngineName()
	if err != nil {
		return stats.Options{}, err
	}
	password, err := h.StatsPassword()
	if err != nil {
		return stats.Options{}, err
	}
	o := stats.Options{User: host.StatsUser, Password: password}
	if name == settings.HAProxy {
		o.Socket = h.PageSocket()
		return o, nil
	}
	global, err := h.Settings.Effective(settings.Global)
	o.Listen = global.StatsListen
	return o, err
}
