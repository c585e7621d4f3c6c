package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/portsfile"
)

var removeCommand = command{
	args: "<app> <public>...",
	text: "Removes public ports that expose:add added to an app",
	more: `
A public port is named as it was added: 25, 53/udp, 127.0.0.1:5432, 6000-6010. That is all mappings of the port; with @ and the
host names it is one of them. New connections are refused at once, established ones go on. Ports of the app's PORTS file
go with the next deploy of a PORTS without them.

  dokku expose:remove mail 25
  dokku expose:remove dns 53/udp
  dokku expose:remove mail 8883@mqtt.example.com`,
	run: func(ctx context.Context, h *host.Host, call call) error {
		app, args, err := takeApp(h, call.args)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			return usageError("remove", "no public port was given")
		}
		return removeMappings(ctx, h, app, args)
	},
}

// removeMappings takes operator's mappings back. What stays is not checked anew, nor read where it can't be: what is wrong with it must
// not keep a port from being given up.
func removeMappings(ctx context.Context, h *host.Host, app string, publics []string) error {
	return h.Locked(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		set, broken := h.Settings.Load(app)
		rest, err := without(app, set.Mappings, publics)
		if broken == nil && err != nil {
			return err
		}
		gone, err := named(publics)
		if err != nil {
			return err
		}
		outcome, closed, err := h.GiveUp(ctx, lock, host.Give{
			App: app, Gone: gone,
			Write: func() error { return h.Settings.RemoveMappings(app, rest) },
			Again: "dokku expose:remove " + app + " " + strings.Join(publics, " "),
		})
		if err == nil && len(closed) == 0 {
			h.Out.Step("Removed public ports of %s that were not open: %s", app, strings.Join(publics, ", "))
		}
		tellGiven(h, outcome, app)
		return err
	})
}

// named tells which addresses are those of public sides of mappings: 25, 127.0.0.1:5432, 6000-6010, 443@mail.example.com.
func named(publics []string) (func(deploy.Key) bool, error) {
	addresses, names := make(map[deploy.Frontend]bool), make(map[deploy.Key]bool)
	var errs []error
	for _, public := range publics {
		// The private side is of no interest here.
		listen, hosts, isNamed := strings.Cut(public, portsfile.HostSeparator)
		text, proto, hasProto := strings.Cut(listen, "/")
		text += ":" + text[strings.LastIndexByte(text, ':')+1:]
		if hasProto {
			text += "/" + proto
		}
		if isNamed {
			text += " tls=passthrough host=" + hosts
		}
		m, err := deploy.ParseMapping(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("public port %q: %w", public, err))
			continue
		}
		for port := range m.Ports() {
			for _, name := range m.Names() {
				key := deploy.Key{Proto: m.Proto, IP: m.Bind, Port: port, ServerName: name}
				if names[key] = true; !isNamed {
					addresses[key.Frontend()] = true
				}
			}
		}
	}
	return func(k deploy.Key) bool { return names[k] || addresses[k.Frontend()] }, errors.Join(errs...)
}

// tellGiven says where an app's other ports lead once it has given some up, and what is wrong with them.
func tellGiven(h *host.Host, outcome deploy.Outcome, app string) {
	_, problems := outcome.Of(app)
	for _, p := range problems {
		if !host.Passing(p) {
			h.Out.Warn("%v", p)
		}
	}
	h.Tell(outcome, app)
}

// without takes mappings out by their public side.
func without(app string, have []deploy.Mapping, publics []string) ([]deploy.Mapping, error) {
	var errs []error
	for _, public := range publics {
		rest := slices.DeleteFunc(slices.Clone(have), func(m deploy.Mapping) bool { return m.Listen() == public || m.Clients() == public })
		if len(rest) == len(have) {
			var known []string
			for _, m := range have {
				known = append(known, m.Clients())
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
