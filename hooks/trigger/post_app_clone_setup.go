package trigger

import (
	"context"
	"errors"
	"fmt"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
)

// PostAppCloneSetup gives a clone its original's settings, but none of its ports: these can't be had twice. So that the clone
// can be deployed all the same, its PORTS is left alone until an operator says which file is the clone's.
//
//	post-app-clone-setup OLD NEW
func PostAppCloneSetup(ctx context.Context, h *host.Host, args []string) error {
	from, to := args[0], args[1]
	if !h.Concerns(from) {
		return nil
	}
	return h.UnderLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		var errs []error
		if err := h.Settings.Clone(from, to); err != nil {
			errs = append(errs, fmt.Errorf("%s gets none of the settings of %s: %w", to, from, err))
		}
		// Of an app that nobody can tell it of, PORTS may ask for what the clone can't have.
		remembered, err := h.State.Load(from)
		errs = append(errs, err)
		if err == nil && remembered.Images[remembered.Current].Text == "" {
			return errors.Join(errs...)
		}
		if err := h.Settings.Set(to, "ports-file", settings.IgnorePorts); err != nil {
			return errors.Join(append(errs, err)...)
		}
		h.Out.Warn("%s", fmt.Sprintf("%s gets none of the public ports of %s, which can't be had twice: its PORTS is ignored. Give it a file of its own: dokku expose:set %s ports-file PORTS.%s; or, once its PORTS names other ports: dokku expose:set %s ports-file PORTS",
			to, from, to, to, to))
		return errors.Join(errs...)
	})
}
