package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/haproxy"
	"dokku-expose/hooks/command"
	"dokku-expose/hooks/daemon"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/setup"
	"dokku-expose/portsfile"
	"dokku-expose/proxy/control"
)

// programUsage is what `dokku-expose help` prints.
const programUsage = `Usage: dokku-expose COMMAND

Gives Dokku apps public TCP and UDP ports without downtime. It is the program behind ` + "`dokku expose`" + `;
of its own commands only lint is for app developers.

    lint [FILE]      Checks a PORTS file (default ./PORTS; - is the standard input) and prints
                     its canonical form. Every error is printed as FILE:LINE:COLUMN: message.
    sync             Makes all public ports what they should be now, as dokku expose:sync does
    daemon           Makes them so whenever Docker's containers change, and serves them where the
                     engine is the built-in one (for its service)
    serve            Is the daemon's worker (for the daemon)
    entry [ready]    Serves the ports of apps on the scheduler k3s on a node of their cluster, or tells
                     whether it does (for the pods of dokku expose:k3s-install)
    prepare          Writes the configuration that HAProxy starts with, from what is true now
    run-haproxy      Becomes the HAProxy process of dokku-expose (for its service)
    welcome          Names the apps whose PORTS comes into force with their next deploy (for setup)
    setup ACTION     Sets up the host: install, update or uninstall (for the plugin's scripts)
    version          Prints the version
    help             Prints this
`

// program runs one of the program's own commands.
func program(ctx context.Context, h *host.Host, args []string) error {
	if len(args) == 0 {
		args = []string{"help"}
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "--help", "-h":
		_, err := io.WriteString(h.Stdout, programUsage)
		return err
	case "version", "--version":
		_, err := fmt.Fprintln(h.Stdout, "dokku-expose", host.Version())
		return err
	case "lint":
		return lint(h, args)
	case "sync":
		return command.Sync(ctx, h)
	case "daemon":
		return daemon.Master(h)
	case "serve":
		return daemon.Serve(ctx, h)
	case "entry":
		return entry(ctx, h, args)
	case "prepare":
		return prepare(ctx, h)
	case "run-haproxy":
		return runHAProxy(ctx, h)
	case "welcome":
		return h.Welcome(ctx)
	case "setup":
		return setUp(ctx, h, args)
	}
	return fmt.Errorf("there is no command %q; `dokku-expose help` lists them", name)
}

// entry is the daemon of an entry host, or tells whether that is ready.
func entry(ctx context.Context, h *host.Host, args []string) error {
	switch {
	case len(args) == 0:
		return daemon.Entry(ctx, h)
	case len(args) == 1 && args[0] == "ready":
		_, err := os.Stat(os.Getenv("READY_FILE"))
		return err
	}
	return errors.New("usage: dokku-expose entry [ready]")
}

// lint checks a PORTS file as a push would, as far as that can be told without a host.
func lint(h *host.Host, args []string) error {
	name := "PORTS"
	if len(args) > 1 {
		return errors.New("lint checks one file; usage: dokku-expose lint [FILE]")
	}
	if len(args) == 1 {
		name = args[0]
	}
	var file io.Reader = h.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		file = f
	}
	text, err := io.ReadAll(io.LimitReader(file, portsfile.MaxSize+1))
	if err != nil {
		return err
	}
	entries, err := deploy.ParsePorts(name, string(text))
	if err != nil {
		// Compilers' form, without Dokku's prefix: editors find the place by it.
		fmt.Fprintln(h.Stderr, err)
		return &dokku.ExitError{Code: 1}
	}
	mappings := make([]deploy.Mapping, 0, len(entries))
	for _, e := range entries {
		mappings = append(mappings, e.Mapping)
	}
	_, err = h.Stdout.Write(portsfile.Format(mappings))
	return err
}

// prepareAnswer is how long a start of HAProxy waits for Docker: clients are refused meanwhile.
const prepareAnswer = 3 * time.Second

// prepare writes the configuration for a start of HAProxy. What Docker does not confirm at this moment is not in it. Where
// HAProxy is not the engine in force there are no ports in it.
//
// Whatever keeps it from that, and however it ends: HAProxy does not start with addresses from before.
func prepare(ctx context.Context, h *host.Host) error {
	config, err := h.HAProxyConfig()
	if err != nil {
		return err
	}
	disarm := haproxy.New(config).Disarm
	if err := disarm(ctx); err != nil {
		return err
	}
	if client, err := h.Docker(); err == nil {
		client.Bound(prepareAnswer)
	}
	return h.UnderLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		// Who had the lock until now may have been about to write the file, for a HAProxy that was running still.
		if err := disarm(ctx); err != nil {
			return err
		}
		w, err := h.Wire()
		if err != nil {
			return err
		}
		name, err := w.EngineName()
		if err != nil {
			return err
		}
		inForce := name == settings.HAProxy
		engine, err := w.HAProxy(inForce)
		if err != nil {
			return err
		}
		var table deploy.Table
		if inForce {
			r, err := w.Reconciler(false)
			if err != nil {
				return err
			}
			if table, _, err = r.Preview(ctx); err != nil {
				return err
			}
			// The daemon serves the rest, and needs those ports to be free.
			table, _ = (&deploy.Engines{InForce: engine, Fallback: true}).Split(table)
		}
		return engine.Prepare(ctx, table)
	})
}

// runHAProxy becomes HAProxy: the service manager watches that process, not this one.
func runHAProxy(ctx context.Context, h *host.Host) error {
	config, err := h.HAProxyConfig()
	if err != nil {
		return err
	}
	if _, err := os.Stat(config.ConfigFile); errors.Is(err, fs.ErrNotExist) {
		// The very first start.
		if err := prepare(ctx, h); err != nil {
			return err
		}
	}
	// HAProxy must be able to return to where it starts. By hand that may be root's home.
	if err := os.Chdir("/"); err != nil {
		return err
	}
	command := haproxy.New(config).Command()
	return fmt.Errorf("%s: %w", command[0], syscall.Exec(command[0], command, os.Environ()))
}

// setUp sets up the host for the plugin, whose folder is the working directory.
func setUp(ctx context.Context, h *host.Host, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: dokku-expose setup install|update|uninstall")
	}
	tree, err := filepath.EvalSymlinks(".")
	if err == nil {
		tree, err = filepath.Abs(tree)
	}
	if err != nil {
		return err
	}
	global, err := h.Settings.Effective(settings.Global)
	if err != nil {
		// They may be mended later; the plugin has to be there for that.
		h.Out.Warn("%v", err)
	}
	if setup.Action(args[0]) == setup.Uninstall {
		entries, err := h.Entries()
		if entries != nil {
			err = command.UninstallEntries(ctx, h)
		}
		if err != nil {
			// The ports of this host have to be closed all the same.
			h.Out.Warn("%v", err)
		}
	}
	return setup.Run(ctx, setup.Options{
		Action:      setup.Action(args[0]),
		Tree:        tree,
		Triggers:    Triggers(),
		Subcommands: command.Names(),
		DokkuRoot:   h.Env.Root,
		LibRoot:     h.Env.LibRoot,
		User:        h.Env.User,
		Group:       h.Env.Group,
		DockerHost:  os.Getenv("DOCKER_HOST"),
		InitSystem:  h.Env.InitSystem,
		HAProxy:     global.Engine == settings.HAProxy,
		StopDaemon:  func(ctx context.Context) error { return stopDaemon(ctx, h) },
		Step:        func(message string) { h.Out.Step("%s", message) },
		Stdout:      h.Stdout,
		Stderr:      h.Stderr,
	})
}

// endTimeout is how long daemons that were told to end may take.
const endTimeout = 10 * time.Second

// stopDaemon ends the daemon, and those that it took over from, or that nobody has taken over from, with their connections.
func stopDaemon(ctx context.Context, h *host.Host) error {
	for {
		pid, err := control.FindRunning(h.Control)
		if err != nil || pid == 0 {
			return err
		}
		if err := terminate(ctx, pid); err != nil {
			return err
		}
	}
}

// terminate ends a process that is no child of this one. One that has gone already is fine.
func terminate(ctx context.Context, pid int) error {
	process, err := dokku.FindProcess(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end the daemon's process %d: %w", pid, err)
		}
		for deadline := time.Now().Add(endTimeout); time.Now().Before(deadline); {
			if !process.Alive() {
				return nil
			}
			if !host.Sleep(ctx, endPoll) {
				return ctx.Err()
			}
		}
	}
	return fmt.Errorf("the daemon's process %d does not end", pid)
}

// endPoll is the pause between two looks at a process that is to end.
const endPoll = 100 * time.Millisecond
