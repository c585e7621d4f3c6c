package host

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"dokku-expose/deploy"
	"dokku-expose/haproxy"
	"dokku-expose/hooks/settings"
	"dokku-expose/proxy/control"
)

// NotRunning is why an engine that does not run is of no use; nil of one that runs.
func NotRunning(o deploy.Observation) error {
	if o.Running {
		return nil
	}
	return errors.Join(o.Wrong...)
}

// MustRun is the error of an engine that does not run, or can't be asked.
func MustRun(ctx context.Context, e deploy.Engine) error {
	o, err := e.Observe(ctx)
	return cmp.Or(err, NotRunning(o))
}

// Wiring is the host with its settings as they were at one moment: global.toml is decoded once for all apps and engines.
type Wiring struct {
	host     *Host
	settings *settings.Reading
}

// Wire reads the host's settings.
func (h *Host) Wire() (Wiring, error) {
	reading, err := h.Settings.Read()
	return Wiring{h, reading}, err
}

// wired is a part of a new [Wiring].
func wired[T any](h *Host, part func(Wiring) (T, error)) (T, error) {
	w, err := h.Wire()
	if err != nil {
		var none T
		return none, err
	}
	return part(w)
}

// Engine is [Wiring.Engine] by the settings as they are now.
func (h *Host) Engine() (deploy.Engine, error) { return wired(h, Wiring.Engine) }

// EngineName is [Wiring.EngineName] by the settings as they are now.
func (h *Host) EngineName() (string, error) { return wired(h, Wiring.EngineName) }

// Engine is the engine in force, with the one that is its fallback, if there is one: whoever asks what is served asks both.
func (w Wiring) Engine() (deploy.Engine, error) { return w.engines(false) }

// inForce is the engine in force alone.
func (w Wiring) inForce() (deploy.Engine, error) {
	name, err := w.EngineName()
	if err != nil {
		return nil, err
	}
	return w.engineCalled(name, true)
}

// Serving is the engine in force, and what it serves now.
func (w Wiring) Serving(ctx context.Context) (deploy.Engine, map[deploy.Key]deploy.RouteState, error) {
	engine, err := w.Engine()
	if err != nil {
		return nil, nil, err
	}
	o, err := engine.Observe(ctx)
	return engine, o.Serving(), err
}

// engineCalled is the engine of that name. One that is not in force has no statistics page: there is one address for both.
func (w Wiring) engineCalled(name string, inForce bool) (deploy.Engine, error) {
	if name == settings.Builtin {
		return w.Builtin(inForce), nil
	}
	e, err := w.HAProxy(inForce)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// restartDaemon is what an operator types to have a new daemon take over.
const restartDaemon = "systemctl restart dokku-expose (runit: sv restart dokku-expose)"

// Builtin is the engine that is the daemon, with a statistics page or without.
func (w Wiring) Builtin(page bool) *control.Client {
	config := control.ClientConfig{
		Control: w.host.Control, Version: Version(), TotalConnections: w.settings.Host.TotalConnections,
		Start: "systemctl start dokku-expose (runit: sv start dokku-expose)", Restart: restartDaemon,
	}
	if page && w.host.Node == "" {
		config.Page = w.settings.Host.StatsListen
	}
	return control.NewClient(config, w.host.Daemon)
}

// HAProxy is the engine that is HAProxy, with a statistics page or without.
func (w Wiring) HAProxy(page bool) (*haproxy.Engine, error) {
	config, err := w.host.HAProxyConfig()
	if err != nil {
		return nil, err
	}
	global := w.settings.Host
	config.WorkerDeadline, config.TotalConnections = global.WorkerDeadline, global.TotalConnections
	if page {
		config.StatsListen, config.StatsUser, config.DaemonSocket = global.StatsListen, StatsUser, w.host.PageSocket()
		if config.StatsPassword, err = w.host.StatsPassword(); err != nil {
			return nil, err
		}
	}
	return haproxy.New(config), nil
}

// EngineName is the engine in force: the one that is set, else the one that the daemon found at its first start, else HAProxy
// where it is installed. It is written down since a HAProxy that somebody installs, or upgrades, must not move anybody's ports.
func (w Wiring) EngineName() (string, error) {
	if w.host.Node != "" {
		return settings.Builtin, nil
	}
	if name := w.settings.Host.Engine; name != settings.Auto {
		return name, nil
	}
	text, err := os.ReadFile(w.host.engineFile())
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

// KeepEngine writes down which engine the setting auto stands for here. The caller holds the lock.
func (h *Host) KeepEngine() error {
	if _, err := os.Stat(h.engineFile()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	name, err := h.EngineName()
	if err != nil {
		return err
	}
	return renameio.WriteFile(h.engineFile(), []byte(name+"\n"), 0o644)
}

func (h *Host) engineFile() string { return filepath.Join(h.Env.DataDir(), "engine") }

// otherEngine is the engine that is not in force; nil where there is none. The daemon is a fallback: it serves the routes that HAProxy does
// not support.
func (w Wiring) otherEngine() (other deploy.Engine, fallback bool, err error) {
	name, err := w.EngineName()
	if err != nil {
		return nil, false, err
	}
	if name == settings.HAProxy {
		other, err = w.engineCalled(settings.Builtin, false)
		return other, true, err
	}
	if _, err := haproxyBinary(); err != nil {
		return nil, false, nil
	}
	other, err = w.engineCalled(settings.HAProxy, false)
	return other, false, err
}

// engines are the engine in force and the other one, where that is a fallback. With vacate the other one also gives up the routes of the
// engine in force, which has been changed, if only half.
func (w Wiring) engines(vacate bool) (deploy.Engine, error) {
	inForce, err := w.inForce()
	if err != nil {
		return nil, err
	}
	other, fallback, err := w.otherEngine()
	if err != nil || other == nil || !fallback && !vacate {
		return inForce, err
	}
	return &deploy.Engines{InForce: inForce, Other: other, Fallback: fallback, Warn: func(err error) { w.host.Out.Warn("%v", err) }}, nil
}

// PageSocket is where HAProxy reaches the daemon's page: in the one folder where the daemon can write and HAProxy can read.
func (h *Host) PageSocket() string { return filepath.Join(h.Env.DataDir(), "haproxy", "page.sock") }
