package hooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"dokku-expose/deploy"
	"dokku-expose/haproxy"
	"dokku-expose/hooks/settings"
	"dokku-expose/proxy"
	"dokku-expose/stats"
)

// engine is what the plugin asks of an engine beside the model's part.
type engine interface {
	deploy.Engine
	// Refuses says why the engine can't listen on an address of this host, whoever else does or does not.
	Refuses(deploy.Listen) error
	// Remarks are what is worth knowing of the engine, and of routes that it treats otherwise than the other one.
	Remarks(context.Context, deploy.Table) []*deploy.Problem
	// Health says what is wrong with the engine itself, and whether it runs. The error is that it can't be asked.
	Health(ctx context.Context) (running bool, wrong []error, err error)
	// Processes are the ids of the processes that may listen for it.
	Processes(ctx context.Context) ([]int, error)
	// Page is where the statistics page listens, the zero value when nowhere.
	Page(ctx context.Context) (netip.AddrPort, error)
	// Facts are what the engine counts. The error wraps deploy.ErrNotRunning when it does not run.
	Facts(ctx context.Context) (stats.Facts, error)
}

// haproxyEngine is HAProxy.
type haproxyEngine struct{ *haproxy.Engine }

// crashesAtExit are the versions of HAProxy whose old workers can crash at their end (haproxy#2114).
var crashesAtExit = regexp.MustCompile(`^2\.6\.1[0-3]\b`)

func (e haproxyEngine) Remarks(ctx context.Context, table deploy.Table) (remarks []*deploy.Problem) {
	// That HAProxy can't be asked its health says.
	if status, err := e.Status(ctx); err == nil && crashesAtExit.MatchString(status.Version) {
		remarks = append(remarks, &deploy.Problem{Err: fmt.Errorf("an old worker of HAProxy %s can crash when its last connection has ended (code 139 in its log), which costs no connection; 2.6.14 mends it", status.Version)})
	}
	told := make(map[string]bool)
	for _, r := range table.Routes {
		if told[r.App] || len(r.Options.AcceptProxy.Prefixes()) == 0 {
			continue
		}
		told[r.App] = true
		remarks = append(remarks, &deploy.Problem{App: r.App, Listen: r.Listen, Err: errors.New(
			"HAProxy closes a proxy whose PROXY header comes in more than one TCP segment, is UNKNOWN with addresses, or is of another family than TCP over IPv4 or IPv6; " +
				"where a proxy sends such a header, use the engine that reads all of them: dokku expose:set --global engine builtin")})
	}
	return remarks
}

// errHAProxyStopped says that there is no HAProxy, and what to do.
var errHAProxyStopped = errors.New("HAProxy of dokku-expose does not run, so no port is served; start it: systemctl start dokku-expose-haproxy (runit: sv start dokku-expose-haproxy), and see why it ended: journalctl -u dokku-expose-haproxy")

func (e haproxyEngine) Health(ctx context.Context) (running bool, wrong []error, err error) {
	status, err := e.Status(ctx)
	if err != nil {
		return false, nil, err
	}
	if !status.Running {
		return false, []error{errHAProxyStopped}, nil
	}
	if status.Stale != "" {
		wrong = append(wrong, fmt.Errorf("HAProxy runs with something else than its configuration file says (%s); run: dokku expose:sync", status.Stale))
	}
	// It runs, whatever has become of its program.
	if installed, err := e.Installed(ctx); err != nil {
		wrong = append(wrong, err)
	} else if installed != status.Version {
		wrong = append(wrong, fmt.Errorf("the HAProxy that runs is version %s, but %s is installed; let the new one run, which ends connections: systemctl restart dokku-expose-haproxy (runit: sv restart dokku-expose-haproxy)",
			status.Version, installed))
	}
	if few(status.MaxConnections, status.Asked) {
		wrong = append(wrong, fmt.Errorf("HAProxy can have %d connections at a time; let its service have more open files (LimitNOFILE), six a connection, then restart it: systemctl restart dokku-expose-haproxy (runit: sv restart dokku-expose-haproxy)",
			status.MaxConnections))
	}
	return true, wrong, nil
}

func (e haproxyEngine) Page(ctx context.Context) (netip.AddrPort, error) {
	status, err := e.Status(ctx)
	return status.Stats, err
}

// builtinEngine is the daemon, which the plugin reaches through its control socket; the daemon itself reaches it directly.
type builtinEngine struct {
	deploy.Engine
	client *proxy.Client
	// page is where its statistics page is to be, the zero value when nowhere.
	page netip.AddrPort
	// total is how many connections there may be at once, 0 for as many as can be had.
	total int
}

func (e builtinEngine) Apply(ctx context.Context, t deploy.Table) (deploy.Applied, error) {
	t.TotalConnections = e.total
	return e.Engine.Apply(ctx, t)
}

func (e builtinEngine) Refuses(l deploy.Listen) error {
	if l.Overlaps(deploy.ListenOn(e.page)) {
		return fmt.Errorf("the statistics page listens on %s; choose another public port", e.page)
	}
	return nil
}

// restartDaemon is what an operator types to have a new daemon take over.
const restartDaemon = "systemctl restart dokku-expose (runit: sv restart dokku-expose)"

// fewConnections are so few that a limit must have been left as it was by mistake.
const fewConnections = 1000

// few tells whether an engine can have so few connections, and fewer than it was asked for; 0 asks for as many as can be had.
func few(most, asked int) bool {
	return most < fewConnections && (asked == 0 || most < asked)
}

// errDaemonStopped says that there is no daemon, and what to do.
var errDaemonStopped = errors.New("the daemon of dokku-expose does not run, so no port is served; start it: systemctl start dokku-expose (runit: sv start dokku-expose), and see why it ended: journalctl -u dokku-expose")

func (e builtinEngine) Remarks(context.Context, deploy.Table) []*deploy.Problem { return nil }

func (e builtinEngine) Health(ctx context.Context) (running bool, wrong []error, err error) {
	status, err := e.client.Status(ctx)
	if errors.Is(err, deploy.ErrNotRunning) {
		return false, []error{errDaemonStopped}, nil
	}
	if err != nil {
		return false, nil, err
	}
	if status.Version != version() {
		wrong = append(wrong, fmt.Errorf("the daemon that runs is version %s, not %s; let the new one take over, no connection ends: %s", status.Version, version(), restartDaemon))
	}
	if few(status.MaxConnections, e.total) {
		wrong = append(wrong, fmt.Errorf("the daemon can have %d connections at a time; let its service have more open files (LimitNOFILE), then: %s", status.MaxConnections, restartDaemon))
	}
	return true, wrong, nil
}

func (e builtinEngine) Page(ctx context.Context) (netip.AddrPort, error) {
	if !e.page.IsValid() || !stats.Answers(ctx, e.page) {
		return netip.AddrPort{}, nil
	}
	return e.page, nil
}

// mustRun is the error of an engine that does not run, or can't be asked.
func mustRun(ctx context.Context, e engine) error {
	running, wrong, err := e.Health(ctx)
	if err == nil && !running {
		err = errors.Join(wrong...)
	}
	return err
}

// engine is the engine in force.
func (h *Host) engine() (engine, error) {
	name, err := h.engineName()
	if err != nil {
		return nil, err
	}
	return h.engineCalled(name, true)
}

// serving is the engine in force, and what it serves now.
func (h *Host) serving(ctx context.Context) (engine, map[deploy.Listen]deploy.Service, error) {
	engine, err := h.engine()
	if err != nil {
		return nil, nil, err
	}
	serving, err := engine.Serving(ctx)
	return engine, serving, err
}

// engineCalled is the engine of that name. One that is not in force has no statistics page: there is one address for both.
func (h *Host) engineCalled(name string, inForce bool) (engine, error) {
	if name == settings.Builtin {
		return h.builtin(inForce)
	}
	e, err := h.haproxy(inForce)
	return haproxyEngine{e}, err
}

// builtin is the engine that is the daemon, with a statistics page or without.
func (h *Host) builtin(page bool) (builtinEngine, error) {
	global, err := h.settings.Effective(settings.Global)
	if err != nil {
		return builtinEngine{}, err
	}
	e := builtinEngine{client: h.daemonClient(), total: global.TotalConnections}
	if page {
		e.page = global.StatsListen
	}
	e.Engine = e.client
	if h.server != nil {
		e.Engine = h.server
	}
	return e, nil
}

// daemonClient asks the daemon that runs.
func (h *Host) daemonClient() *proxy.Client {
	return proxy.NewClient(h.control, proxy.Commands{
		Start:   "systemctl start dokku-expose (runit: sv start dokku-expose)",
		Restart: restartDaemon,
	})
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
func (h *Host) otherEngine() (engine, error) {
	name, err := h.engineName()
	if err != nil {
		return nil, err
	}
	if name == settings.HAProxy {
		return h.builtin(false)
	}
	if _, err := haproxyBinary(); err != nil {
		return nil, nil
	}
	return h.engineCalled(settings.HAProxy, false)
}

// askOther bounds what is waited for the engine that is not in force: a deploy does not depend on it.
const askOther = 2 * time.Second

// vacate takes everything from the engine that is not in force: it was moved away from, if only half. That it can't be asked is
// told, but is no reason not to go on: what it still listens on, the other engine can't have, which is an error of its own.
func (h *Host) vacate(ctx context.Context) error {
	other, err := h.otherEngine()
	if other == nil || err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, askOther)
	defer cancel()
	serving, err := other.Serving(asking)
	page, pageErr := other.Page(asking)
	if err := errors.Join(err, pageErr); err != nil {
		h.out.Warn("whether the engine %s, which is not in force, still has ports is not known: %v", other.Name(), err)
		return nil
	}
	if len(serving) == 0 && !page.IsValid() {
		return nil
	}
	if _, err := other.Apply(ctx, deploy.Table{}); err != nil && !errors.Is(err, deploy.ErrNotRunning) {
		return fmt.Errorf("take the public ports from the engine %s, which is not in force: %w", other.Name(), err)
	}
	return nil
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
