// Package setup makes a host ready for the plugin and takes it off again: the system user, the folders and their owners, the
// links in the plugin's tree that Dokku calls, HAProxy's package, a setting of the kernel's and the services: our own HAProxy and the
// daemon.
//
// It runs as root, from the scripts install, update and uninstall at the plugin's root, and Dokku runs install whenever any
// plugin is installed: every step looks first, changes only what differs and is silent about the rest. It edits no file of
// another package, and nothing in it may end an established connection but [Uninstall].
//
// It must not know what a route or a mapping is: what depends on them is a subcommand of the installed binary, run as
// Dokku's user.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"dokku-expose/hooks/dokku"
)

const (
	// Binary is where the scripts put the program. Root owns the place, for root and the service run it.
	Binary = "/usr/local/lib/dokku-expose/dokku-expose"
	// RunDir holds HAProxy's sockets, DaemonRunDir the daemon's; the services create them.
	RunDir       = "/run/dokku-expose"
	DaemonRunDir = "/run/dokku-expose-daemon"
	// Account is the name of the system user and of the group that HAProxy runs as. Dokku's user is in the group: this is how
	// it reaches HAProxy's sockets.
	Account = "dokku-expose"
)

// Action is what [Run] is asked to do.
type Action string

const (
	// Install brings the host into the wanted state.
	Install Action = "install"
	// Update is Install for a binary that was just replaced: the routes are reconciled by it afterwards.
	Update Action = "update"
	// Uninstall removes everything that Install made, and the plugin's settings and data.
	Uninstall Action = "uninstall"
)

// Options say what to set up and for which Dokku.
type Options struct {
	Action Action
	// Tree is the plugin's folder.
	Tree string
	// Triggers and Subcommands name the links that Dokku calls: TREE/TRIGGER and TREE/subcommands/SUBCOMMAND.
	Triggers, Subcommands []string
	// DokkuRoot and LibRoot are DOKKU_ROOT and DOKKU_LIB_ROOT.
	DokkuRoot, LibRoot string
	// User and Group are Dokku's own, DOKKU_SYSTEM_USER and DOKKU_SYSTEM_GROUP.
	User, Group string
	// DockerHost is DOCKER_HOST, "" for Docker's default.
	DockerHost string
	// InitSystem is DOKKU_INIT_SYSTEM: "sv" in Dokku's own container image, else "".
	InitSystem string
	// HAProxy tells that HAProxy must be there: it is installed where it is missing. Where it is there anyway its service is set up
	// too, with no ports, so that they can be moved to it at any time.
	HAProxy bool
	// StopDaemon ends what is left of the daemon once its service has been removed: a worker goes on for a while.
	StopDaemon func(ctx context.Context) error
	// Step prints one line about a change that was made.
	Step func(message string)
	// Stdout and Stderr take what the subcommands print that are run as Dokku's user.
	Stdout, Stderr io.Writer
}

// Run does what o.Action says. It needs root. An error says what was not done; running it again goes on from there.
func Run(ctx context.Context, o Options) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("setup %s must run as root: Dokku does so for `sudo dokku plugin:install`", o.Action)
	}
	if err := o.check(); err != nil {
		return err
	}
	s := &setup{Options: o}
	switch o.Action {
	case Install:
		return s.install(ctx)
	case Update:
		if err := s.install(ctx); err != nil {
			return err
		}
		return s.sync(ctx)
	case Uninstall:
		return s.uninstall(ctx)
	}
	return fmt.Errorf("setup: unknown action %q, known are %s, %s and %s", o.Action, Install, Update, Uninstall)
}

// plain is what goes into unit files and scripts without quoting. Paths and names of a Dokku host are of it.
var plain = regexp.MustCompile(`^[A-Za-z0-9/._:@+-]*$`)

func (o Options) check() error {
	if name := filepath.Base(o.Tree); name != dokku.Plugin {
		return fmt.Errorf("the plugin is installed as %q but works as %q only: "+
			"dokku plugin:uninstall %s, then dokku plugin:install URL --name %s", name, dokku.Plugin, name, dokku.Plugin)
	}
	for _, v := range []struct{ name, value string }{
		{"DOKKU_ROOT", o.DokkuRoot},
		{"DOKKU_LIB_ROOT", o.LibRoot},
		{"DOKKU_SYSTEM_USER", o.User},
		{"DOKKU_SYSTEM_GROUP", o.Group},
	} {
		if v.value == "" || !plain.MatchString(v.value) {
			return fmt.Errorf("%s is %q: it must be set, to letters, digits and any of / . _ : @ + - only", v.name, v.value)
		}
	}
	if !plain.MatchString(o.DockerHost) {
		return fmt.Errorf("DOCKER_HOST is %q: letters, digits and any of / . _ : @ + - only are supported", o.DockerHost)
	}
	return nil
}

type setup struct {
	Options
}

func (s *setup) say(format string, args ...any) { s.Step(fmt.Sprintf(format, args...)) }

func (s *setup) install(ctx context.Context) error {
	_, err := os.Stat(filepath.Join(s.LibRoot, "data", dokku.Plugin))
	fresh := errors.Is(err, os.ErrNotExist)
	if err := s.createAccount(ctx); err != nil {
		return err
	}
	if err := s.createFolders(); err != nil {
		return err
	}
	// Before HAProxy: when that can't be installed, the command that chooses another engine is there.
	if err := s.createLinks(); err != nil {
		return err
	}
	if err := reusePorts.install(s); err != nil {
		return fmt.Errorf("%s: %w", reusePorts.key, err)
	}
	usable, err := s.installHAProxy(ctx)
	if err != nil {
		return err
	}
	sv := s.supervisor()
	for _, svc := range services {
		if svc.haproxy && !usable {
			err = sv.remove(ctx, svc)
		} else {
			err = sv.install(ctx, svc)
		}
		if err != nil {
			return fmt.Errorf("service %s: %w", svc.name, err)
		}
	}
	if fresh {
		// The plugin is installed all the same.
		if err := s.asDokku(ctx, "welcome"); err != nil {
			s.say("%v", err)
		}
	}
	return nil
}

// sync puts the new binary to work: what may be restarted is, and then the routes are made real as it sees them, for what it
// renders may differ from what the old one did.
func (s *setup) sync(ctx context.Context) error {
	usable, err := s.usableHAProxy(ctx)
	if err != nil {
		return err
	}
	sv := s.supervisor()
	for _, svc := range services {
		if svc.haproxy && !usable {
			continue
		}
		running, err := sv.running(ctx, svc)
		if err == nil && running && svc.restartable {
			err = sv.restart(ctx, svc)
		}
		if err != nil {
			return fmt.Errorf("service %s: %w", svc.name, err)
		}
		if !running {
			s.say("%s does not run. Start it: %s", svc.name, sv.startCommand(svc))
		}
	}
	return s.asDokku(ctx, "sync")
}

func (s *setup) uninstall(ctx context.Context) error {
	// Links first: no hook may find half a plugin. The binary last, and only when the rest is gone: it is what a second
	// attempt runs.
	err := s.removeLinks()
	sv := s.supervisor()
	for _, svc := range slices.Backward(services) {
		err = errors.Join(err, sv.remove(ctx, svc))
	}
	err = errors.Join(err, s.StopDaemon(ctx), reusePorts.uninstall(s))
	// What runs still needs its files and its user.
	if err == nil {
		err = errors.Join(s.removeFolders(), s.removeAccount(ctx), s.removeAll(RunDir), s.removeAll(DaemonRunDir))
	}
	if err != nil {
		return fmt.Errorf("not everything was removed; when the cause is, run `dokku plugin:uninstall %s` again: %w", dokku.Plugin, err)
	}
	if err := s.removeAll(filepath.Dir(Binary)); err != nil {
		return err
	}
	if _, err := haproxyProgram(); err == nil {
		s.say("HAProxy's package stays; when nothing else uses it: apt-get remove haproxy")
	}
	return nil
}

func (s *setup) removeAll(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	s.say("Removed %s", path)
	return nil
}
