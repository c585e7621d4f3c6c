package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/stats"
)

const (
	// settle is how long the daemon waits for more events once there was one: a container's start is several.
	settle = 50 * time.Millisecond
	// reprove is how often it asks containers that do not accept connections yet.
	reprove = 500 * time.Millisecond
	// relist is how often it looks without an event: some get lost.
	relist = time.Minute
	// The pause after a failure doubles from the first to the last.
	firstRetry, lastRetry = 250 * time.Millisecond, 2 * time.Second
	// lastTry is the longest pause while only single ports can't be served, whose holder may be there for good.
	lastTry = 8 * time.Second
	// doubt is how often it looks at the servers that nobody vouches for while Docker is away: well below the time in which a
	// container can be stopped and another one be started at its address.
	doubt = 100 * time.Millisecond
)

// follow reconciles whenever Docker says that containers have changed, when the engine has found a server down, at start-up, and on
// SIGHUP. Nobody else tells of a container that crashed, was restarted, or has another address since Docker or the host was
// restarted. failed gets a value when the built-in engine has found a server down. follow calls ready when the ports are what they
// should be for the first time, or can't be.
//
//	when                                        what is done                                  by
//	Docker tells of a container that died       it leaves service, by what is known           drop, before anything else
//	Docker can't be asked, or another source    servers that accept no more leave service     doubt, ten times a second
//	anything else, or time has passed           read, probe, plan, apply                      heal
//	that failed, and Docker can be asked        what Docker does not vouch for leaves         confirm, in heal
//	a second has passed                         drains and outages are logged, old ones cut   look, in wait
func follow(ctx context.Context, h *host.Host, log *slog.Logger, counters *stats.Counters, hup <-chan os.Signal, failed <-chan struct{}, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake := make(chan struct{}, 1)
	d := healer{host: h, log: log, counters: counters, failed: failed, problems: problemLog{log: log}, outages: outageLog{log: log}}
	if h.Node == "" {
		client, err := h.Docker()
		if err != nil {
			return err
		}
		client.Bound(host.DaemonPatience)
	}
	sources, err := h.Sources()
	if err != nil {
		return err
	}
	ws := newWatchers(sources, h.MainSource(), log, func(died string) {
		d.noteDied(died)
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	h.Watched = ws.sources()
	var watching sync.WaitGroup
	watching.Go(func() { ws.run(ctx) })
	defer func() { cancel(); watching.Wait() }()

	retry, pause := firstRetry, doubt
	// It waits first: Docker needs a moment to answer at all.
	for d.wait(ctx, pause, hup, wake) {
		d.drop(ctx)
		pause = doubt
		lost, all := ws.lost()
		if len(lost) > 0 {
			d.doubt(ctx, lost, all)
			if ws.missed() {
				ready()
			}
			if all || !d.woken && time.Now().Before(d.due) {
				continue
			}
		}
		if !host.Sleep(ctx, settle) {
			return nil
		}
		d.woken = false
		ws.forget()
		pause, err = d.heal(ctx)
		without, applied := new(deploy.ReducedError), err == nil
		if errors.As(err, &without) {
			applied = true
		}
		if applied {
			d.unvouched = without.Apps
			ws.settle()
		}
		// A source that is lost is no reason to try again: it is looked for.
		if lost, _ = ws.lost(); err == nil || applied && len(lost) > 0 {
			retry = firstRetry
		} else {
			pause, retry = retry, min(2*retry, lastRetry)
		}
		if d.due = time.Now().Add(pause); len(lost) > 0 {
			pause = min(pause, doubt)
		}
		ready()
	}
	return nil
}

// wait returns when there is reason to reconcile, or false when ctx has ended. Meanwhile it looks at what the engine does.
func (d *healer) wait(ctx context.Context, pause time.Duration, hup <-chan os.Signal, wake <-chan struct{}) bool {
	over, rested := time.After(pause), time.After(time.Until(d.rest))
	var failed <-chan struct{}
	for {
		var due <-chan time.Time
		if d.looked == nil {
			due = time.After(time.Until(d.nextLook))
		}
		select {
		case <-ctx.Done():
			return false
		case <-over:
			return true
		case <-hup:
			d.woken = true
			return true
		case <-wake:
			d.woken = true
			return true
		case <-rested:
			failed = d.failed
		case <-failed:
			d.rest, d.woken = time.Now().Add(reprove), true
			return true
		case <-due:
			d.look(ctx)
		case found := <-d.looked:
			d.looked, d.nextLook = nil, time.Now().Add(found.pause)
			d.outages.note(found.seen, found.err, time.Now())
			d.noteOld(found.seen.Routes)
			if err := d.cutOld(ctx, found.seen.Routes); err != nil && !errors.Is(err, context.Canceled) {
				d.log.Error("problem", "error", err)
			}
			if found.down {
				d.woken = true
				return true
			}
		}
	}
}

// healer reconciles for the daemon, and logs what is wrong when it begins and when it ends.
type healer struct {
	host     *host.Host
	log      *slog.Logger
	counters *stats.Counters
	// failed gets a value when the built-in engine has found a server down; before rest that is no reason to reconcile.
	failed <-chan struct{}
	rest   time.Time
	// woken tells that there was a reason to reconcile since the last one; without one the next is due then.
	woken bool
	due   time.Time
	// unvouched are the apps of which a source could not be asked by the last reconcile.
	unvouched []string
	// again is the pause before the next try of ports that the engine refused, 0 when it refused none.
	again time.Duration
	// problems tells of what is wrong.
	problems problemLog
	// known is what each source told last, nil where none has told anything.
	known map[string]deploy.Listing
	// apps and engine are what could be read last, unread why they can't be now.
	apps   []deploy.App
	engine deploy.Engine
	unread error
	// read is what Apps reads: the host, with the settings that the last reconciler was made by.
	read deploy.Host
	// old are the connections on old containers at the last look.
	old []draining
	// outages tells of an engine that has ended, and is back.
	outages outageLog
	// looked gets what the look finds that is under way, nil when none is; nextLook is when the next one begins.
	looked   chan look
	nextLook time.Time
	// listening tells that what has just started was told to hold connections.
	listening bool

	mu sync.Mutex
	// died are containers that Docker has told of since the last look.
	died []string
}

// noteDied keeps the id of a container that has died.
func (d *healer) noteDied(id string) {
	if id == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.died = append(d.died, id)
}

// takeDied returns those, and forgets them.
func (d *healer) takeDied() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	died := d.died
	d.died = nil
	return died
}

// drop takes containers out of service at once that have died.
func (d *healer) drop(ctx context.Context) {
	died := d.takeDied()
	if len(died) == 0 || !slices.ContainsFunc(deploy.Endpoints(d.known), func(c deploy.Endpoint) bool { return slices.Contains(died, c.ID) }) {
		return
	}
	err := d.reduce(ctx, deploy.Known{Sources: d.known, Loss: deploy.Loss{Died: died}})
	if err != nil && !errors.Is(err, context.Canceled) {
		d.log.Error("problem", "error", err)
	}
}

// heal returns when to look again at the latest.
func (d *healer) heal(ctx context.Context) (pause time.Duration, err error) {
	var (
		outcome deploy.Outcome
		took    time.Duration
		// told is why entry hosts could not be told what they are to serve.
		told error
	)
	err = d.host.UnderLock(ctx, func(ctx context.Context, lock *deploy.Lock) (err error) {
		defer func(began time.Time) { took = time.Since(began) }(time.Now())
		// Who has died so far Docker does not tell of any more, or is back: it must not be dropped for that when this has ended.
		d.takeDied()
		keepErr := d.host.KeepEngine()
		told = d.host.Publish(ctx)
		outcome, err = d.host.Reconcile(ctx, lock)
		switch {
		case err == nil:
			d.remember(outcome)
		case !errors.As(err, new(*deploy.ReducedError)) && !errors.Is(err, deploy.ErrUnreachable) && !errors.Is(err, context.Canceled):
			err = errors.Join(err, d.confirm(ctx, lock))
		}
		return errors.Join(err, keepErr)
	})
	d.know(outcome.Sources)
	var problems []problem
	pause = relist
	all, lackErr := host.WithPortLacks(outcome.Problems, outcome.Table.Routes)
	if lackErr != nil {
		problems = append(problems, problem{text: lackErr.Error()})
	}
	for _, p := range all {
		problems = append(problems, problemOf(p))
		if errors.Is(p, deploy.ErrNotAccepting) {
			pause = reprove
		}
	}
	if d.again = min(max(2*d.again, firstRetry), lastTry); !outcome.Refused {
		d.again = 0
	} else {
		pause = min(pause, d.again)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		problems = append(problems, hostProblems(err)...)
	}
	if told != nil {
		problems, pause = append(problems, hostProblems(told)...), min(pause, host.PublishAgain)
	}
	if err != nil && outcome.Apps == nil {
		problems = append(problems, d.problems.ofApps()...)
	}
	if due := d.problems.note(problems, time.Now()); !due.IsZero() {
		pause = min(pause, time.Until(due))
	}
	d.counters.Reconciled(took, len(outcome.Applied.Switched), len(problems), err)
	return pause, err
}

// doubt takes servers out of service that are gone while their source can't be asked: what is there next at their addresses may be
// another app's. Those that go on accepting stay, as Docker's live-restore keeps them. all tells that no source can be asked.
func (d *healer) doubt(ctx context.Context, lost []string, all bool) {
	first := all && d.known == nil && !d.listening
	d.listening = d.listening || all
	told := make(map[string]deploy.Listing)
	for _, name := range lost {
		if listing, ok := d.known[name]; ok {
			told[name] = listing
		}
	}
	probe := func(app string) bool { return all || slices.Contains(d.unvouched, app) }
	err := d.reduce(ctx, deploy.Known{Sources: told, Probe: probe, Hold: first})
	if err != nil && !errors.Is(err, context.Canceled) {
		d.problems.note(append(d.problems.ofApps(), hostProblems(err)...), time.Now())
	}
}

// reduce takes servers out of service under the host-wide lock, and records which.
func (d *healer) reduce(ctx context.Context, known deploy.Known) error {
	return d.host.UnderLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		d.unread = nil
		outcome, err := d.reconciler(ctx).Reduce(ctx, lock, known)
		d.host.Record(outcome)
		return errors.Join(d.unread, err)
	})
}
