package hooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"dokku-expose/deploy"
	"dokku-expose/haproxy"
	"dokku-expose/hooks/settings"
	"dokku-expose/proxy"
)

// errStopped is why an engine that does not run is of no use; nil of one that runs.
func errStopped(o deploy.Observation) error {
	if o.Running {
		return nil
	}
	return errors.Join(o.Wrong...)
}

// mustRun is the error of an engine that does not run, or can't be asked.
func mustRun(ctx context.Context, e deploy.Engine) error {
	o, err := e.Observe(ctx)
	return cmp.Or(err, errStopped(o))
}

// engine is the engine in force.
func (h *Host) engine() (deploy.Engine, error) {
	name, err := h.engineName()
	if err != nil {
		return nil, err
	}
	return h.engineCalled(name, true)
}

// serving is the engine in force, and what it serves now.
func (h *Host) serving(ctx context.Context) (deploy.Engine, map[deploy.Listen]deploy.RouteState, error) {
	engine, err := h.engine()
	if err != nil {
		return nil, nil, err
	}
	o, err := engine.Observe(ctx)
	return engine, o.Serving(), err
}

// engineCalled is the engine of that name. One that is not in force has no statistics page: there is one address for both.
func (h *Host) engineCalled(name string, inForce bool) (deploy.Engine, error) {
	var (
		e   deploy.Engine
		err error
	)
	if name == settings.Builtin {
		e, err = h.builtin(inForce)
	} else {
		e, err = h.haproxy(inForce)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// restartDaemon is what an operator types to have a new daemon take over.
const restartDaemon = "systemctl restart dokku-expose (runit: sv restart dokku-expose)"

// builtin is the engine that is the daemon, with a statistics page or without.
func (h *Host) builtin(page bool) (*proxy.Client, error) {
	global, err := h.settings.Effective(settings.Global)
	if err != nil {
		return nil, err
	}
	config := proxy.ClientConfig{
		Control: h.control, Version: version(), TotalConnections: global.TotalConnections,
		Start: "systemctl start dokku-expose (runit: sv start dokku-expose)", Restart: restartDaemon,
	}
	if page {
		config.Page = global.StatsListen
	}
	return proxy.NewClient(config, h.within), nil
}

// haproxy is the engine that is HAProxy, with a statistics page or without.
func (h *Host) haproxy(page bool) (*haproxy.Engine, error) {
	global, err := h.settings.Effective(settings.Global)
	if err != nil {
		return nil, err
	}
	config, err := h.haproxyConfig()
	if err != nil {
		return nil, err
	}
	config.WorkerDeadline, config.TotalConnections = global.WorkerDeadline, global.TotalConnections
	if page {
		config.StatsListen, config.StatsUser, config.DaemonSocket = global.StatsListen, statsUser, h.pageSocket()
		if config.StatsPassword, err = h.statsPassword(); err != nil {
			return nil, err
		}
	}
	return haproxy.New(config), nil
}

// engineName is the engine in force: the one that is set, else the one that the daemon found at its first start, else HAProxy
// where it is installed. It is written down since a HAProxy that somebody installs, or upgrades, must not move anybody's ports.
func (h *Host) engineName() (string, error) {
	global, err := h.settings.Effective(settings.Global)
	if err != nil {
		return "", err
	}
	if global.Engine != settings.Auto {
		return global.Engine, nil
	}
	text, err := os.ReadFile(h.engineFile())
	switch name := strings.TrimSpace(string(text)); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	case name == settings.HAProxy || name == settings.Builtin:
		return name, nil
	}
	if _, err := haproxyBinary(); err != nil {
		return settings.Builtin, nil
	}
	return settings.HAProxy, nil
}

// keepEngine writes down which engine the setting auto stands for here. The caller holds the lock.
func (h *Host) keepEngine() error {
	if _, err := os.Stat(h.engineFile()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	name, err := h.engineName()
	if err != nil {
		return err
	}
	return renameio.WriteFile(h.engineFile(), []byte(name+"\n"), 0o644)
}

func (h *Host) engineFile() string { return filepath.Join(h.env.DataDir(), "engine") }

// otherEngine is the engine that is not in force; nil where there is none.
func (h *Host) otherEngine() (deploy.Engine, error) {
	name, err := h.engineName()
	if err != nil {
		return nil, err
	}
	if name == settings.HAProxy {
		return h.engineCalled(settings.Builtin, false)
	}
	if _, err := haproxyBinary(); err != nil {
		return nil, nil
	}
	return h.engineCalled(settings.HAProxy, false)
}

// askOther bounds what is waited for the engine that is not in force: what closes something does not depend on it.
const askOther = 2 * time.Second

// besides is the engine in force with the other one beside it: the daemon serves what HAProxy does not support. With vacate the other one
// gives up all else that it serves, for it was moved away from, if only half.
func (h *Host) besides(inForce deploy.Engine, vacate bool) (deploy.Engine, error) {
	other, err := h.otherEngine()
	_, fallback := other.(*proxy.Client)
	if err != nil || other == nil || !fallback && !vacate {
		return inForce, err
	}
	return &deploy.Engines{InForce: inForce, Other: other, Fallback: fallback, Warn: func(err error) { h.out.Warn("%v", err) }}, nil
}

// move has another engine serve the ports, as set writes it down, or leaves everything as it is. The new engine must run before
// anything is taken from the old one.
func (h *Host) move(ctx context.Context, lock *deploy.Lock, set func() error) error {
	from, err := h.engineName()
	if err != nil {
		return err
	}
	restore, err := h.settings.Backup(settings.Global)
	if err != nil {
		return err
	}
	former, err := h.reconcile(ctx, lock)
	if err != nil {
		// The engine may be what has to be got away from.
		former = deploy.Outcome{}
	}
	if err := set(); err != nil {
		return err
	}
	to, err := h.engineName()
	if err == nil && to == from {
		h.out.Step("The engine is %s, as before", to)
		return nil
	}
	var outcome deploy.Outcome
	if err == nil {
		outcome, err = h.moveTo(ctx, lock, to, former)
	}
	if err != nil {
		err = errors.Join(err, restore())
		_, again := h.reconcile(ctx, lock)
		return errors.Join(err, again, fmt.Errorf("the engine is still %s", from))
	}
	h.log.Info("engine", "from", from, "to", to)
	h.out.Step("%d public ports are served by the engine %s now", len(outcome.Table.Routes), to)
	// That of the daemon runs only when another one takes over from it.
	most := ", or worker-deadline is over after a restart of the daemon"
	if from == settings.HAProxy {
		most = ", or worker-deadline is over"
	}
	h.out.Detail("Established connections stay with the engine %s until they end%s", from, most)
	return nil
}

func (h *Host) moveTo(ctx context.Context, lock *deploy.Lock, to string, former deploy.Outcome) (deploy.Outcome, error) {
	engine, err := h.engine()
	if err != nil {
		return deploy.Outcome{}, err
	}
	if err := mustRun(ctx, engine); err != nil {
		return deploy.Outcome{}, err
	}
	h.out.Step("Moving %d public ports to the engine %s: for a moment new connections are refused", len(former.Table.Routes), to)
	outcome, err := h.reconcile(ctx, lock)
	if err != nil {
		return outcome, err
	}
	fresh, _ := withoutProblems(outcome, former)
	var errs []error
	for _, p := range fresh.Problems {
		if !passing(p) {
			errs = append(errs, p)
		}
	}
	return outcome, errors.Join(errs...)
}
