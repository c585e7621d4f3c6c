package hooks

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"dokku-expose/deploy"
	"dokku-expose/deploy/docker"
	"dokku-expose/hooks/settings"
	"dokku-expose/proxy"
)

const (
	// settle is how long the daemon waits for more events once there was one: a container's start is several.
	settle = 50 * time.Millisecond
	// reprove is how often it asks containers that do not accept connections yet.
	reprove = 500 * time.Millisecond
	// relist is how often it looks without an event: some get lost.
	relist = time.Minute
	// The pause after a failure doubles from the first to the last.
	firstRetry, lastRetry = 250 * time.Millisecond, 30 * time.Second
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

// master keeps the worker running. It is what the service manager knows: a restart of it costs no connection.
func (h *Host) master() error {
	worker := exec.Command("/proc/self/exe", "serve")
	worker.Args[0] = os.Args[0]
	worker.Stdout, worker.Stderr = h.stdout, h.stderr
	return proxy.Master(worker, h.log())
}

// log is the daemon's, a line an event.
func (h *Host) log() *slog.Logger { return slog.New(slog.NewTextHandler(h.stderr, nil)) }

// serve is the built-in engine, whose table is empty where that engine is not in force, and what keeps the engine in force up to
// date.
func (h *Host) serve(ctx context.Context) error {
	log := h.log()
	// Elsewhere it means that the user has gone.
	signal.Reset(syscall.SIGHUP)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)

	orphaned, err := proxy.MasterGone()
	if err != nil {
		return err
	}
	options := proxy.Options{
		Control: h.control, Version: version(), Log: log,
		Orphaned: orphaned, Linger: linger, Drain: drainAtEnd,
		Reconcile: func(ctx context.Context, engine deploy.Engine) error {
			h.server = engine
			ready := sync.OnceFunc(func() {
				if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
					log.Error("the service manager was not told of the start", "error", err)
				}
			})
			defer time.AfterFunc(readyTimeout, ready).Stop()
			return h.follow(ctx, log, hup, ready)
		},
	}
	global, err := h.settings.Effective(settings.Global)
	if err != nil {
		log.Error("settings", "error", err)
	}
	options.Deadline = global.WorkerDeadline
	return proxy.Run(ctx, options)
}

// follow reconciles whenever Docker says that containers have changed, at start-up, and on SIGHUP. Nobody else tells of a
// container that crashed, was restarted, or has another address since Docker or the host was restarted. It calls ready when the
// ports are what they should be for the first time, or can't be.
func (h *Host) follow(ctx context.Context, log *slog.Logger, hup <-chan os.Signal, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake := make(chan struct{}, 1)
	poke := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}

	client, err := h.docker()
	if err != nil {
		return err
	}
	watcher := make(chan struct{})
	go func() {
		defer close(watcher)
		watch(ctx, client, log, poke)
	}()
	defer func() { cancel(); <-watcher }()

	d := healer{host: h, log: log}
	retry := firstRetry
	for {
		pause, err := d.heal(ctx)
		ready()
		if err != nil {
			pause, retry = retry, min(2*retry, lastRetry)
		} else {
			retry = firstRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
		case <-time.After(pause):
		case <-wake:
			if !sleep(ctx, settle) {
				return nil
			}
		}
	}
}

// watch pokes for each event of Docker's, and whenever the connection to Docker is there again.
func watch(ctx context.Context, client *docker.Client, log *slog.Logger, poke func()) {
	retry := firstRetry
	for ctx.Err() == nil {
		err := client.Watch(ctx, func() {
			log.Info("watching Docker")
			retry = firstRetry
			poke()
		}, poke)
		if ctx.Err() != nil {
			return
		}
		log.Error("docker", "error", err, "again_in", retry)
		sleep(ctx, retry)
		retry = min(2*retry, lastRetry)
	}
}

// sleep waits; it is false when ctx has ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// healer reconciles for the daemon and logs what came of it, a line an event.
type healer struct {
	host *Host
	log  *slog.Logger
	// told are the problems that were logged and are still there.
	told []string
}

// heal returns when to look again at the latest.
func (d *healer) heal(ctx context.Context) (pause time.Duration, err error) {
	var outcome deploy.Outcome
	err = d.host.underLock(ctx, func(ctx context.Context, lock *deploy.Lock) (err error) {
		if err := d.host.keepEngine(); err != nil {
			return err
		}
		outcome, err = d.host.reconcile(ctx, lock)
		return err
	})
	for _, listen := range outcome.Applied.Switched {
		i := slices.IndexFunc(outcome.Table.Routes, func(r deploy.Route) bool { return r.Listen == listen })
		if i < 0 {
			continue
		}
		r := outcome.Table.Routes[i]
		d.log.Info("switch", "app", r.App, "public", listen.String(), "servers", serverNames(r.Servers))
	}
	if reason := outcome.Applied.Reload; reason != "" {
		d.log.Info("reload", "reason", reason)
	}
	var problems []string
	pause = relist
	for _, p := range outcome.Problems {
		problems = append(problems, p.Error())
		if errors.Is(p, deploy.ErrNotAccepting) {
			pause = reprove
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		problems = append(problems, err.Error())
	}
	for _, p := range problems {
		if !slices.Contains(d.told, p) {
			d.log.Error("problem", "error", p)
		}
	}
	for _, p := range d.told {
		if !slices.Contains(problems, p) {
			d.log.Info("solved", "problem", p)
		}
	}
	d.told = problems
	for _, r := range outcome.Table.Routes {
		if r.CutOld > 0 {
			// Connections are cut at the look after their time is over.
			pause = min(pause, max(r.CutOld, time.Second))
		}
	}
	return pause, err
}

func serverNames(servers []deploy.Server) []string {
	names := make([]string, 0, len(servers))
	for _, s := range servers {
		names = append(names, s.Dyno+"@"+s.Addr.String())
	}
	return names
}
