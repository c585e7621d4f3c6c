package hooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dokku-expose/deploy"
	"dokku-expose/haproxy"
	"dokku-expose/hooks/state"
)

var addCommand = command{
	args: "<app> <mapping>... [<key>=<value>...]",
	text: "Adds public ports to an app beside those of its PORTS file",
	more: `
A mapping is written as in a PORTS file: 25:5025, 127.0.0.1:5432:5432, 6000-6010:7000-7010. Options go for all of the
mappings. They take effect at once, without a deploy, and stay until expose:remove. Options but for process are settings,
too (expose:set), for all mappings that don't say otherwise:

` + deploy.OptionsReference() + `

  dokku expose:add mail 25:5025 587:5587
  dokku expose:add mail 993:5993 process=imap rate=20/10s`,
	run: func(ctx context.Context, h *Host, call call) error {
		app, args, err := h.takeApp(call.args)
		if err != nil {
			return err
		}
		added, err := parseMappings(args)
		if err != nil {
			return err
		}
		return h.editMappings(ctx, app, func(ctx context.Context, have []deploy.Mapping) ([]deploy.Mapping, error) {
			wanted := append(have, added...)
			if err := h.admitMappings(ctx, app, wanted); err != nil {
				return nil, err
			}
			var claims []deploy.Claim
			for _, m := range added {
				claims = append(claims, deploy.OperatorClaims(app, m)...)
			}
			h.warnUnreserved(claims)
			return wanted, h.noteStopped(ctx, app)
		})
	},
}

// parseMappings reads the mappings of a command line; options among the arguments go for all of them.
func parseMappings(args []string) ([]deploy.Mapping, error) {
	var texts, options []string
	for _, arg := range args {
		if strings.Contains(arg, "=") {
			options = append(options, arg)
		} else {
			texts = append(texts, arg)
		}
	}
	if len(texts) == 0 {
		return nil, usageError("add", "no mapping was given, like 25:5025")
	}
	var (
		mappings []deploy.Mapping
		errs     []error
	)
	for _, text := range texts {
		m, err := deploy.ParseMapping(strings.Join(append([]string{text}, options...), " "))
		if err != nil {
			errs = append(errs, fmt.Errorf("mapping %q: %w", text, err))
		}
		mappings = append(mappings, m)
	}
	return mappings, errors.Join(errs...)
}

var removeCommand = command{
	args: "<app> <public>...",
	text: "Removes public ports that expose:add added to an app",
	more: `
A public port is named as it was added: 25, 127.0.0.1:5432, 6000-6010. New connections are refused at once, established
ones go on. Ports of the app's PORTS file go with the next deploy of a PORTS without them.

  dokku expose:remove mail 25`,
	run: func(ctx context.Context, h *Host, call call) error {
		app, args, err := h.takeApp(call.args)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			return usageError("remove", "no public port was given")
		}
		return h.removeMappings(ctx, app, args)
	},
}

// removeMappings takes operator's mappings back. What stays is not checked anew, nor read where it can't be: what is wrong with it must
// not keep a port from being given up.
func (h *Host) removeMappings(ctx context.Context, app string, publics []string) error {
	return h.locked(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		set, broken := h.settings.Load(app)
		rest, err := without(app, set.Mappings, publics)
		if broken == nil && err != nil {
			return err
		}
		gone, err := named(publics)
		if err != nil {
			return err
		}
		outcome, closed, err := h.giveUp(ctx, lock, give{
			app: app, gone: gone,
			write: func() error { return h.settings.RemoveMappings(app, rest) },
			again: "dokku expose:remove " + app + " " + strings.Join(publics, " "),
		})
		if err == nil && len(closed) == 0 {
			h.out.Step("Removed public ports of %s that were not open: %s", app, strings.Join(publics, ", "))
		}
		h.tellGiven(outcome, app)
		return err
	})
}

// named tells which addresses are those of public sides of mappings: 25, 127.0.0.1:5432, 6000-6010.
func named(publics []string) (func(deploy.Listen) bool, error) {
	addresses := make(map[deploy.Listen]bool)
	var errs []error
	for _, public := range publics {
		// The private side is of no interest here.
		m, err := deploy.ParseMapping(public + ":" + public[strings.LastIndexByte(public, ':')+1:])
		if err != nil {
			errs = append(errs, fmt.Errorf("public port %q: %w", public, err))
			continue
		}
		for port := range m.Ports() {
			addresses[deploy.Listen{IP: m.Bind, Port: port}] = true
		}
	}
	return func(l deploy.Listen) bool { return addresses[l] }, errors.Join(errs...)
}

// tellGiven says where an app's other ports lead once it has given some up, and what is wrong with them.
func (h *Host) tellGiven(outcome deploy.Outcome, app string) {
	_, problems := outcome.Of(app)
	for _, p := range problems {
		if !passing(p) {
			h.out.Warn("%v", p)
		}
	}
	h.tell(outcome, app)
}

// without takes mappings out by their public side.
func without(app string, have []deploy.Mapping, publics []string) ([]deploy.Mapping, error) {
	var errs []error
	for _, public := range publics {
		rest := slices.DeleteFunc(slices.Clone(have), func(m deploy.Mapping) bool { return m.Listen() == public })
		if len(rest) == len(have) {
			var known []string
			for _, m := range have {
				known = append(known, m.Listen())
			}
			errs = append(errs, fmt.Errorf("%s has no public port %s that expose:add added; it has: %s", app, public, orNone(known)))
		}
		have = rest
	}
	return have, errors.Join(errs...)
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// editMappings changes the operator's mappings of an app and makes that real. When it can't be made real it is undone.
func (h *Host) editMappings(ctx context.Context, app string, edit func(context.Context, []deploy.Mapping) ([]deploy.Mapping, error)) error {
	return h.underLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		set, err := h.settings.Load(app)
		if err != nil {
			return err
		}
		wanted, err := edit(ctx, slices.Clone(set.Mappings))
		if err != nil {
			return err
		}
		return h.edit(ctx, lock, app, false, func() error { return h.settings.SetMappings(app, wanted) })
	})
}

// noteStopped remembers that an operator stopped the app before it had anything to do with public ports.
func (h *Host) noteStopped(ctx context.Context, app string) error {
	stopped, err := h.env.Stopped(app)
	if !stopped || err != nil || h.state.Known(app) {
		return err
	}
	client, err := h.docker()
	if err != nil {
		return err
	}
	containers, err := client.ContainersOf(ctx, app)
	if err != nil || slices.ContainsFunc(containers, func(c deploy.Container) bool { return c.Running }) {
		return err
	}
	return h.state.Save(app, state.App{Stopped: true})
}

// admitMappings checks the operator's mappings against each other, the app's PORTS, and the rest of the host.
func (h *Host) admitMappings(ctx context.Context, app string, mappings []deploy.Mapping) error {
	remembered, err := h.state.Load(app)
	if err != nil {
		return err
	}
	claims, err := claimsOf(app, remembered.Images[remembered.Current])
	if err != nil {
		return err
	}
	var (
		holders  deploy.Holders
		operator []deploy.Claim
		errs     []error
	)
	holders.Add(claims...)
	for _, m := range mappings {
		for _, c := range deploy.OperatorClaims(app, m) {
			if conflict := holders.Conflict(c); conflict != nil {
				errs = append(errs, conflict)
			}
			holders.Add(c)
			operator = append(operator, c)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return h.admit(ctx, app, append(claims, operator...))
}

var disableCommand = command{
	args: "<app>",
	text: "Closes all public ports of an app and keeps them reserved for it",
	more: `
New connections are refused at once, established ones go on.

  dokku expose:disable mail`,
	run: func(ctx context.Context, h *Host, call call) error {
		return h.setDisabled(ctx, "disable", call.args, true)
	},
}

var enableCommand = command{
	args: "<app>",
	text: "Opens the public ports of an app again",
	more: `
  dokku expose:enable mail`,
	run: func(ctx context.Context, h *Host, call call) error {
		return h.setDisabled(ctx, "enable", call.args, false)
	},
}

func (h *Host) setDisabled(ctx context.Context, name string, args []string, disabled bool) error {
	app, rest, err := h.takeApp(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usageError(name, fmt.Sprintf("unexpected argument %q", rest[0]))
	}
	write := func() error { return h.settings.SetDisabled(app, disabled) }
	if !disabled {
		return h.underLock(ctx, func(ctx context.Context, lock *deploy.Lock) error { return h.edit(ctx, lock, app, false, write) })
	}
	return h.locked(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		outcome, closed, err := h.giveUp(ctx, lock, give{app: app, gone: all, write: write, again: "dokku expose:disable " + app})
		if err == nil && len(closed) == 0 {
			h.out.Step("No public port of %s was open; none is opened until: dokku expose:enable %s", app, app)
		}
		h.tellGiven(outcome, app)
		return err
	})
}

var syncCommand = command{
	text: "Makes all public ports what they should be now",
	more: `
It reads settings and PORTS files and asks Docker anew. It is what each deploy does, for when something was changed by
hand, or to see what is wrong.

  dokku expose:sync`,
	run: func(ctx context.Context, h *Host, call call) error {
		if len(call.args) > 0 {
			return usageError("sync", fmt.Sprintf("unexpected argument %q", call.args[0]))
		}
		return h.sync(ctx)
	},
}

func (h *Host) sync(ctx context.Context) error {
	var outcome deploy.Outcome
	err := h.underLock(ctx, func(ctx context.Context, lock *deploy.Lock) (err error) {
		outcome, err = h.reconcile(ctx, lock)
		return err
	})
	if err != nil {
		return err
	}
	if client, err := h.docker(); err == nil {
		if err := client.RemoveLeftovers(ctx); err != nil {
			h.out.Warn("%v", err)
		}
	}
	var apps []string
	for _, r := range outcome.Table.Routes {
		apps = append(apps, r.App)
	}
	for _, p := range outcome.Problems {
		apps = append(apps, p.App)
	}
	slices.Sort(apps)
	for _, app := range slices.Compact(apps) {
		h.tell(outcome, app)
	}
	var errs []error
	for _, p := range outcome.Problems {
		if !passing(p) {
			errs = append(errs, p)
		}
	}
	return errors.Join(errs...)
}

var showConfigCommand = command{
	text: "Prints the effective HAProxy configuration",
	more: `
  dokku expose:show-config`,
	run: func(ctx context.Context, h *Host, _ call) error {
		engine, err := h.engine()
		if err != nil {
			return err
		}
		e, ok := engine.(*haproxy.Engine)
		if !ok {
			return fmt.Errorf("the engine %s has no configuration file; dokku expose:list says where each port leads", engine.Name())
		}
		text, err := e.ShowConfig(ctx)
		if err != nil {
			return err
		}
		_, err = h.stdout.Write(text)
		return err
	},
}
