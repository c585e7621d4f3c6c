package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/state"
)

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

// editMappings changes the operator's mappings of an app and makes that real. When it can't be made real it is undone.
func editMappings(ctx context.Context, h *host.Host, app string, edit func(context.Context, []deploy.Mapping) ([]deploy.Mapping, error)) error {
	return h.UnderLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		set, err := h.Settings.Load(app)
		if err != nil {
			return err
		}
		wanted, err := edit(ctx, slices.Clone(set.Mappings))
		if err != nil {
			return err
		}
		return editSettings(ctx, h, lock, app, false, func() error { return h.Settings.SetMappings(app, wanted) })
	})
}

// noteStopped remembers that an operator stopped the app before it had anything to do with public ports.
func noteStopped(ctx context.Context, h *host.Host, app string) error {
	stopped, err := h.Env.Stopped(app)
	if !stopped || err != nil || h.State.Known(app) {
		return err
	}
	containers, err := h.EndpointsOf(ctx, app)
	if err != nil || slices.ContainsFunc(containers, func(c deploy.Endpoint) bool { return c.Running }) {
		return err
	}
	return h.State.Save(app, state.App{Stopped: true})
}

// admitMappings checks the operator's mappings against each other, the app's PORTS, and the rest of the host.
func admitMappings(ctx context.Context, h *host.Host, app string, mappings []deploy.Mapping) error {
	remembered, err := h.State.Load(app)
	if err != nil {
		return err
	}
	claims, err := host.ClaimsOf(app, remembered.Images[remembered.Current])
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
	return h.Admit(ctx, app, append(claims, operator...))
}
