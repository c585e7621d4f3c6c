package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dokku-expose/internal/freeport"

	"github.com/docker/docker/client"
)

// Plugin is the name that the plugin is installed under.
const Plugin = "expose"

// Options say what kind of host it is. Binary and App must be set.
type Options struct {
	// Binary is the plugin's program, or a stand-in that says what it was called with.
	Binary string
	// Service is the program that the plugin's services are, "" for Binary.
	Service string
	// App is the program of internal/testapp, which all apps of the host are (BuildApp).
	App string
	// Triggers and Subcommands are what the plugin has a link for; what it has none for, Dokku does not call. Nil stands
	// for all that a host calls.
	Triggers, Subcommands []string
	// Settings are the plugin's global settings. An address for the statistics page is added when there is none: the
	// default one can be had only once on a machine.
	Settings map[string]string
	// Env is added to the environment of every call ("KEY=VALUE").
	Env []string
	// HAProxy starts the HAProxy of the plugin, Daemon its daemon.
	HAProxy, Daemon bool
	// Supervise has services that end started again as a service manager does, by what their units say.
	Supervise bool
	// DockerHost is the host's Docker, as the variable DOCKER_HOST names one; "" for the one that the variable itself names.
	DockerHost string
	// Out gets what a user of Dokku would see. Nil: nobody.
	Out io.Writer
	// After is called when a trigger has ended, Stopping just before a container gets its SIGTERM. Both may be called from
	// several goroutines at once.
	After    func(Call, Result)
	Stopping func(app, container string)
	// Rollout is the cluster of apps on the scheduler k3s. Nil: there is none, and no pod.
	Rollout func(Rollout) error
}

// Host is a Dokku host. Its methods may be called from several goroutines, as commands of Dokku's run at the same time.
type Host struct {
	// Dir is the temporary folder with everything in it; see the other fields for its parts.
	Dir string
	// Root is DOKKU_ROOT, Lib is DOKKU_LIB_ROOT, and Run is where the sockets of the services are (DOKKU_EXPOSE_RUN_DIR).
	Root, Lib, Run string
	// Docker is the host's Docker.
	Docker *client.Client

	options Options
	id      string
	out     io.Writer
	ctx     context.Context
	cancel  context.CancelFunc
	close   func() error
	later   sync.WaitGroup // what Dokku does in the background
	lock    *os.File       // on Dir, for as long as the host lives

	mu              sync.Mutex // guards what follows
	ports           []uint16
	haproxy, daemon service
	// former are daemons that were restarted, whose workers may still be there.
	former []*process
}

// New makes a host. The context's end ends every call that is under way; Close is needed all the same.
func New(ctx context.Context, opts Options) (_ *Host, err error) {
	if opts.Out == nil {
		opts.Out = io.Discard
	}
	if opts.After == nil {
		opts.After = func(Call, Result) {}
	}
	if opts.Rollout == nil {
		opts.Rollout = func(Rollout) error { return nil }
	}
	if opts.Stopping == nil {
		opts.Stopping = func(string, string) {}
	}
	engine := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if opts.DockerHost != "" {
		engine = append(engine, client.WithHost(opts.DockerHost))
	}
	docker, err := client.NewClientWithOpts(engine...)
	if err != nil {
		return nil, fmt.Errorf("rig: %w", err)
	}
	dir, lock, err := newDir()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rig: %w", err), docker.Close())
	}
	h := &Host{
		Dir:     dir,
		Root:    filepath.Join(dir, "home"),
		Lib:     filepath.Join(dir, "lib"),
		Run:     filepath.Join(dir, "run"),
		Docker:  docker,
		options: opts,
		id:      strings.TrimPrefix(filepath.Base(dir), dirPrefix),
		lock:    lock,
		out:     &lockedWriter{w: opts.Out},
	}
	h.haproxy = service{
		command: "run-haproxy", log: "haproxy.log", answers: h.haproxyAnswers,
		prepare: "prepare", pause: 100 * time.Millisecond, mixed: true,
	}
	h.daemon = service{command: "daemon", log: "daemon.log", answers: h.daemonAnswers, pause: 100 * time.Millisecond}
	h.ctx, h.cancel = context.WithCancel(ctx)
	h.close = sync.OnceValue(h.cleanUp)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("rig: %w", err), h.Close())
		}
	}()
	if _, err := docker.Ping(h.ctx); err != nil {
		return nil, fmt.Errorf("docker does not answer: %w", err)
	}
	// A Docker of its own knows nothing of other hosts' containers.
	if opts.DockerHost == "" {
		if err := sweep(h.ctx, docker); err != nil {
			return nil, err
		}
	}
	if err := h.install(); err != nil {
		return nil, err
	}
	if opts.HAProxy {
		if err := h.StartHAProxy(); err != nil {
			return nil, err
		}
	}
	if opts.Daemon {
		if err := h.StartDaemon(); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// install makes the folders of Dokku's and of the plugin's installation, and the plugin's links.
func (h *Host) install() error {
	plugin := filepath.Join(h.Lib, "plugins", "available", Plugin)
	for _, dir := range []string{
		h.Root, h.Run, filepath.Join(plugin, "subcommands"), filepath.Join(h.Lib, "plugins", "enabled"),
		filepath.Join(h.Lib, "config", Plugin), filepath.Join(h.Lib, "data", Plugin, "haproxy"), filepath.Join(h.Dir, "repos"),
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink(plugin, filepath.Join(h.Lib, "plugins", "enabled", Plugin)); err != nil {
		return err
	}
	triggers, subcommands := h.options.Triggers, h.options.Subcommands
	if triggers == nil {
		triggers = allTriggers
	}
	links := append([]string{"commands"}, triggers...)
	for _, verb := range subcommands {
		links = append(links, filepath.Join("subcommands", verb))
	}
	binary, err := filepath.Abs(h.options.Binary)
	if err != nil {
		return err
	}
	for _, link := range links {
		if err := os.Symlink(binary, filepath.Join(plugin, link)); err != nil {
			return err
		}
	}
	return h.settings()
}

// settings writes the plugin's global settings.
func (h *Host) settings() error {
	settings := make(map[string]string)
	for key, value := range h.options.Settings {
		settings[key] = value
	}
	if _, ok := settings["stats-listen"]; !ok {
		port, err := h.FreePort()
		if err != nil {
			return err
		}
		settings["stats-listen"] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	var text strings.Builder
	for key, value := range settings {
		fmt.Fprintf(&text, "%s = %q\n", key, value)
	}
	return os.WriteFile(filepath.Join(h.Lib, "config", Plugin, "global.toml"), []byte(text.String()), 0o644)
}

// Close ends everything that the host runs and removes everything that it made. Closing it again does nothing.
func (h *Host) Close() error { return h.close() }

func (h *Host) cleanUp() error {
	h.cancel()
	h.later.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), cleanupTimeout)
	defer cancel()
	err := errors.Join(
		h.stopServices(),
		h.removeContainers(ctx),
		h.removeImages(ctx),
		freeport.Release(h.ports...),
		h.Docker.Close(),
		os.RemoveAll(h.Dir),
		h.lock.Close(),
	)
	if err != nil {
		return fmt.Errorf("rig: cleaning up: %w", err)
	}
	return nil
}

// FreePort returns a port on which nobody listens, and which nobody else gets before this host is closed.
func (h *Host) FreePort() (uint16, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	port, err := freeport.Take()
	if err == nil {
		h.ports = append(h.ports, port)
	}
	return port, err
}

// SetProperty writes a property of a core plugin as Dokku keeps it: SetProperty("scheduler", "mail", "selected", "null").
// The app "--global" stands for all of them; an empty value removes the property.
func (h *Host) SetProperty(plugin, app, key, value string) error {
	path := h.propertyFile(plugin, app, key)
	if value == "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(value), 0o600)
}

// property is a property of an app's, else the global one; "" when there is neither.
func (h *Host) property(plugin, app, key string) (string, error) {
	for _, scope := range []string{app, "--global"} {
		text, err := os.ReadFile(h.propertyFile(plugin, scope, key))
		if err == nil && len(text) > 0 {
			return strings.TrimSpace(string(text)), nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

func (h *Host) propertyFile(plugin, app, key string) string {
	return filepath.Join(h.Lib, "config", plugin, app, key)
}

// moveProperties gives the properties of an app to another name, or, with keep, copies them; "" as the new name drops them.
func (h *Host) moveProperties(from, to string, keep bool) error {
	plugins, err := os.ReadDir(filepath.Join(h.Lib, "config"))
	if err != nil {
		return err
	}
	for _, plugin := range plugins {
		if plugin.Name() == Plugin {
			continue // the plugin's own affair
		}
		old := filepath.Join(h.Lib, "config", plugin.Name(), from)
		if _, err := os.Stat(old); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		// `common` notes whether an app was deployed; a copy has yet to be.
		if to != "" && plugin.Name() != "common" {
			if err := os.CopyFS(filepath.Join(h.Lib, "config", plugin.Name(), to), os.DirFS(old)); err != nil {
				return err
			}
		}
		if !keep {
			if err := os.RemoveAll(old); err != nil {
				return err
			}
		}
	}
	return nil
}

// say prints a line as Dokku does.
func (h *Host) say(format string, args ...any) { fmt.Fprintf(h.out, format+"\n", args...) }

// lockedWriter keeps lines of several goroutines apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
