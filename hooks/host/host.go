package host

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/source/docker"
	"dokku-expose/deploy/source/kube"
	"dokku-expose/haproxy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/setup"
	"dokku-expose/hooks/state"
	"dokku-expose/proxy/control"
)

// Sleep waits; it is false when ctx has ended before.
func Sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Host is the Dokku host that a hook or a subcommand works on. What costs time (Docker, the engine) is made when it is
// first needed: most hooks are for apps without public ports and need neither.
type Host struct {
	Env      dokku.Env
	Out      *dokku.Printer
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	State    state.Store
	Settings settings.Store
	// runDir is where HAProxy's sockets are, control the path of the daemon's.
	runDir, Control string

	// docked guards the clients: the daemon's page asks beside the daemon's other work.
	docked        sync.Mutex
	dockerClient  *docker.Client
	clusterClient *kube.Client
	// Node is the name of the cluster's node that this host is, where it is an entry host; "" elsewhere.
	Node string
	// published tells that this process has told the entry hosts their table.
	published bool
	// Watched are what the daemon asks for endpoints instead of these, by the source's name; nil in other processes.
	Watched map[string]deploy.Source
	// Daemon is the one that this process is, nil in others.
	Daemon *control.Local
	// Page is where the daemon's statistics page listens, the zero value when nowhere, in that process.
	Page atomic.Value
	// Closing is an app that this process closes, whatever else of it can't be read or written; "" for none.
	Closing string
	// Log gets what happens, with the trigger or the command that it happens in.
	Log *slog.Logger
}

// runDirVariable names another folder for the engines' sockets than those of the services.
const runDirVariable = "DOKKU_EXPOSE_RUN_DIR"

func New(getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) (*Host, error) {
	env, err := dokku.FromEnviron(getenv)
	if err != nil {
		return nil, err
	}
	h := &Host{
		Env:      env,
		Out:      &dokku.Printer{Out: stdout, Err: stderr, Quiet: env.Quiet},
		Stdin:    stdin,
		Stdout:   stdout,
		Stderr:   stderr,
		State:    state.Store{Dir: filepath.Join(env.DataDir(), "apps")},
		Settings: settings.Store{Dir: env.SettingsDir()},
		runDir:   cmp.Or(getenv(runDirVariable), setup.RunDir),
		Control:  filepath.Join(cmp.Or(getenv(runDirVariable), setup.DaemonRunDir), "control.sock"),
	}
	h.Log = slog.New(slog.NewTextHandler(h.EventLog(), nil))
	return h, nil
}

// errNoDocker is the error of an entry host.
var errNoDocker = errors.New("an entry host has no Docker that is asked")

// Docker is the client of the host's Docker. An entry host has none.
func (h *Host) Docker() (*docker.Client, error) {
	if h.Node != "" {
		return nil, errNoDocker
	}
	h.docked.Lock()
	defer h.docked.Unlock()
	if h.dockerClient == nil {
		client, err := docker.New()
		if err != nil {
			return nil, err
		}
		h.dockerClient = client
	}
	return h.dockerClient, nil
}

func (h *Host) Close() error {
	h.docked.Lock()
	defer h.docked.Unlock()
	var errs []error
	if h.dockerClient != nil {
		errs = append(errs, h.dockerClient.Close())
	}
	if h.clusterClient != nil {
		errs = append(errs, h.clusterClient.Close())
	}
	return errors.Join(errs...)
}

// HAProxyConfig is where the host's HAProxy lives. It needs nothing that only user dokku can read.
func (h *Host) HAProxyConfig() (haproxy.Config, error) {
	binary, err := haproxyBinary()
	return haproxy.Config{
		Binary:       binary,
		ConfigFile:   filepath.Join(h.Env.DataDir(), "haproxy", "haproxy.cfg"),
		MasterSocket: filepath.Join(h.runDir, "master.sock"),
		StatsSocket:  filepath.Join(h.runDir, "stats.sock"),
	}, err
}

// haproxyBinary finds the haproxy program. Debian's place for it is not on every user's PATH.
func haproxyBinary() (string, error) {
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy", "/usr/local/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("HAProxy is not installed; install it (apt-get install haproxy) and run: sudo dokku plugin:install; or use the built-in engine: dokku expose:set --global engine builtin")
}

// StatsUser is the login of the statistics page.
const StatsUser = "expose"

// StatsPassword is the login's password, made up when there is none. Whoever asks for it first makes it, and two may be first:
// some hold the host-wide lock and some don't.
func (h *Host) StatsPassword() (string, error) {
	path := filepath.Join(h.Env.DataDir(), "stats-password")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(text)) == 0 {
		text, err = makePassword(path)
	}
	if err != nil {
		return "", fmt.Errorf("password of the statistics page: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// makePassword makes the file up, unless somebody else has done it meanwhile. It returns what is in it then.
func makePassword(path string) (text []byte, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// The lock goes with the file.
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, err
	}
	if text, err = io.ReadAll(file); err != nil || len(bytes.TrimSpace(text)) > 0 {
		return text, err
	}
	// An empty one may be somebody's who did not think of who reads it.
	if err := file.Chmod(0o600); err != nil {
		return nil, err
	}
	text = []byte(rand.Text() + "\n")
	_, err = file.WriteAt(text, 0)
	return text, errors.Join(err, file.Truncate(int64(len(text))), file.Sync())
}

// Reconciler wires the parts that make the host's table real. With vacate the engine that is not in force is taken everything from.
func (w Wiring) Reconciler(vacate bool) (*deploy.Reconciler, error) {
	sources, err := w.host.Sources()
	if err != nil {
		return nil, err
	}
	engine, err := w.engines(vacate)
	if err != nil {
		return nil, err
	}
	return &deploy.Reconciler{Host: w, Sources: sources, Engine: engine}, nil
}

// Reconciler is [Wiring.Reconciler] by the settings as they are now.
func (h *Host) Reconciler(vacate bool) (*deploy.Reconciler, error) {
	return wired(h, func(w Wiring) (*deploy.Reconciler, error) { return w.Reconciler(vacate) })
}

// Reconcile makes everything as it should be, on the entry hosts of a cluster, too. The caller holds the lock.
func (h *Host) Reconcile(ctx context.Context, lock *deploy.Lock) (deploy.Outcome, error) {
	if h.Daemon == nil {
		h.PublishOrWarn(ctx)
	}
	r, err := h.Reconciler(true)
	if err != nil {
		// A host that has no use for an engine may be without one.
		if apps, appsErr := h.Apps(ctx); appsErr == nil && !slices.ContainsFunc(apps, deploy.App.Involved) {
			return deploy.Outcome{}, nil
		}
		return deploy.Outcome{}, err
	}
	outcome, err := r.Reconcile(ctx, lock)
	h.Explain(ctx, outcome.Problems)
	h.Record(outcome)
	return outcome, err
}

// ReconcileFor is Reconcile for some apps: the error is theirs.
func (h *Host) ReconcileFor(ctx context.Context, lock *deploy.Lock, apps ...string) (deploy.Outcome, error) {
	outcome, err := h.Reconcile(ctx, lock)
	if err = h.Spare(err, apps...); err == nil {
		err = Failures(outcome, apps...)
	}
	return outcome, err
}

// Spare is the error of a reconcile, but for that of a source which none of the apps needs: that is warned of.
func (h *Host) Spare(err error, apps ...string) error {
	var reduced *deploy.ReducedError
	if !errors.As(err, &reduced) || slices.ContainsFunc(apps, func(app string) bool { return slices.Contains(reduced.Apps, app) }) {
		return err
	}
	h.Out.Warn("%v", err)
	return nil
}

// Record logs what a reconcile has done.
func (h *Host) Record(outcome deploy.Outcome) {
	event := "switch"
	if h.Daemon != nil {
		event = "heal"
	}
	for _, listen := range outcome.Applied.Switched {
		i := slices.IndexFunc(outcome.Table.Routes, func(r deploy.Route) bool { return r.Key == listen })
		if i < 0 {
			continue
		}
		r := outcome.Table.Routes[i]
		if len(r.Servers) == 0 {
			h.Log.Info("hold", "app", r.App, "public", listen.String())
			continue
		}
		h.Log.Info(event, "app", r.App, "public", listen.String(), "servers", serverNames(r.Servers))
	}
	if reason := outcome.Applied.Reload; reason != "" {
		h.Log.Info("reload", "reason", reason)
	}
	h.RecordCut(outcome.Applied.Cut)
}

// RecordCut logs the connections that HAProxy was told to end. The built-in engine logs its own.
func (h *Host) RecordCut(cut []deploy.Cut) {
	for _, c := range cut {
		h.Log.Warn("cut", "app", c.App, "public", c.Key.String(), "connections", c.Connections)
	}
}

func serverNames(servers []deploy.Server) []string {
	names := make([]string, 0, len(servers))
	for _, s := range servers {
		names = append(names, s.Dyno+"@"+s.Addr.String())
	}
	return names
}
