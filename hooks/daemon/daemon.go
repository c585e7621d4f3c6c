package daemon

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
	"dokku-expose/proxy/control"
	"dokku-expose/stats"
)

const (
	// linger is how long the worker goes on without its master: longer than a service manager needs to start the next one.
	linger = 10 * time.Second
	// drainAtEnd is how long connections may go on when the daemon is ended for good.
	drainAtEnd = 30 * time.Second
	// readyTimeout is when the service counts as started although the first look at everything has not ended: whoever is to start
	// after it may be what it waits for.
	readyTimeout = 10 * time.Second
)

// Master keeps the worker running. It is what the service manager knows: a restart of it costs no connection.
func Master(h *host.Host) error {
	worker := exec.Command("/proc/self/exe", "serve")
	worker.Args[0] = os.Args[0]
	worker.Stdout, worker.Stderr = h.Stdout, h.Stderr
	log := daemonLog(h)
	err := control.Supervise(worker, log)
	if name, nameErr := h.EngineName(); err != nil && nameErr == nil && name == settings.Builtin {
		// How many connections it had, nobody knows any more.
		log.Error("down", "engine", name, "error", err)
	}
	return err
}

// daemonLog is for the service manager too.
func daemonLog(h *host.Host) *slog.Logger {
	return slog.New(slog.NewTextHandler(io.MultiWriter(h.EventLog(), h.Stderr), nil)).With("by", "daemon")
}

// Serve is the built-in engine, whose table is empty where that engine is not in force, and what keeps the engine in force up to
// date.
func Serve(ctx context.Context, h *host.Host) error {
	return serve(ctx, h, func() error {
		_, err := daemon.SdNotify(false, daemon.SdNotifyReady)
		return err
	})
}

// serve tells a service manager by ready when everything was looked at for the first time.
func serve(ctx context.Context, h *host.Host, ready func() error) error {
	// An event loop keeps its place for Go code while it waits in the kernel for a short time. Without a place to spare, the runtime
	// takes that away each time and wakes a thread to look for other work: a tenth of all that a short connection costs.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	h.Log = daemonLog(h)
	log := h.Log
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)

	failed := make(chan struct{}, 1)
	orphaned, err := control.SupervisorGone()
	if err != nil {
		return err
	}
	options := control.Options{
		Control: h.Control, Version: host.Version(), Log: log,
		Failed: func() {
			select {
			case failed <- struct{}{}:
			default: // It is told already.
			}
		},
		Page: func() netip.AddrPort {
			page, _ := h.Page.Load().(netip.AddrPort)
			return page
		},
		Orphaned: orphaned, Linger: linger, Drain: drainAtEnd, Patient: h.Node != "",
		Deadline: func() time.Duration {
			global, err := h.Settings.Effective(settings.Global)
			if err != nil {
				log.Error("settings", "error", err)
				global = settings.Defaults()
			}
			return global.WorkerDeadline
		},
		Reconcile: func(ctx context.Context, local *control.Local) error {
			h.Daemon = local
			told := sync.OnceFunc(func() {
				if err := ready(); err != nil {
					log.Error("the service manager was not told of the start", "error", err)
				}
			})
			defer time.AfterFunc(readyTimeout, told).Stop()
			counters := stats.NewCounters()
			var beside sync.WaitGroup
			defer beside.Wait()
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			beside.Go(func() { h.EventLog().KeepSmall(ctx, log) })
			again := func() {
				select {
				case hup <- syscall.SIGHUP:
				default: // It is to look again anyway.
				}
			}
			if h.Node == "" {
				beside.Go(func() { servePage(ctx, h, counters, log, again) })
			} else {
				// The setting of where the page listens is about the Dokku host.
				beside.Go(func() { followTable(ctx, h, log, again) })
			}
			return follow(ctx, h, log, counters, hup, failed, told)
		},
	}
	return control.Run(ctx, options)
}
