package hooks

import (
	"context"
	"errors"
	"fmt"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
)

// These hooks tell of what an operator does to an app. They warn of what they can't make real, but never fail for it (see trigger):
// Dokku would leave the app half stopped, half renamed or half destroyed, since it does not call the plugins after this one then.

// settle makes real what was written down.
func (h *Host) settle(ctx context.Context, lock *deploy.Lock, app string) {
	outcome, err := h.reconcile(ctx, lock)
	if err == nil {
		err = failures(outcome, app)
	}
	if err != nil {
		h.out.Warn("%v", err)
		h.out.Warn("The public ports of %s are not yet what they should be; when that is mended, run: dokku expose:sync", app)
	}
}

// postStop refuses new connections at once: an operator wanted the app to stop.
//
//	post-stop APP
func postStop(ctx context.Context, h *Host, args []string) error {
	app := args[0]
	// With an error too: an app whose settings can't be read is to stop all the same.
	if involved, err := h.involved(app); !involved && err == nil {
		return nil
	}
	return h.locked(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		return h.giveUpAll(ctx, lock, app, "dokku ps:stop "+app, func() error {
			remembered, err := h.state.Load(app)
			if err != nil {
				return err
			}
			remembered.Stopped, remembered.Stopping, remembered.Deploy = true, nil, nil
			return h.state.Save(app, remembered)
		})
	})
}

// giveUpAll is giveUp for all ports of an app.
func (h *Host) giveUpAll(ctx context.Context, lock *deploy.Lock, app, again string, write func() error) error {
	outcome, _, err := h.giveUp(ctx, lock, give{app: app, gone: all, write: write, again: again})
	return errors.Join(err, failures(outcome, app))
}

// postCreate clears away what an app of the same name left behind while the plugin was disabled: a new app must not
// begin with somebody else's ports.
//
//	post-create APP
func postCreate(ctx context.Context, h *Host, args []string) error {
	if app := args[0]; app == dokku.Plugin {
		h.out.Warn("%s is the name of this plugin too: Dokku keeps the app's variables where the plugin's settings are (%s), and apps:destroy %s will delete both. Better give the app another name.",
			app, h.settings.Dir, app)
	}
	return forget(ctx, h, args[0])
}

// postDelete frees the app's ports and forgets it.
//
//	post-delete APP IMAGE_TAG
func postDelete(ctx context.Context, h *Host, args []string) error {
	return forget(ctx, h, args[0])
}

func forget(ctx context.Context, h *Host, app string) error {
	if !h.concerns(app) {
		return nil
	}
	// With an error too: a settings file that can't be read has to go as well.
	involved, broken := h.involved(app)
	return h.locked(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		err := errors.Join(h.state.Remove(app), h.settings.Remove(app))
		if involved || broken != nil || err != nil {
			err = errors.Join(err, h.giveUpAll(ctx, lock, app, "", nil))
		}
		return err
	})
}

// renameSetup hands ports and settings over to the new name, each whatever becomes of the other. Dokku stops the old containers before
// it deploys the new ones. Until then they go on serving, as in any deploy; after that new connections are held.
//
//	post-app-rename-setup OLD NEW
func renameSetup(ctx context.Context, h *Host, args []string) error {
	from, to := args[0], args[1]
	if !h.concerns(from) {
		return nil
	}
	return h.underLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		err := errors.Join(h.settings.Rename(from, to), h.state.Rename(from, to))
		if err := h.carryOver(from, to); err != nil {
			h.out.Warn("the containers of %s stop serving before Dokku stops them: %v", from, err)
		}
		h.settle(ctx, lock, to)
		return err
	})
}

// carryOver begins the deploy that ends a rename, with the containers of the former name. Dokku copies the CONTAINER files in this
// very trigger, after this plugin's turn.
func (h *Host) carryOver(from, to string) error {
	if involved, err := h.involved(to); !involved {
		return err
	}
	process, err := h.env.Deploy()
	if err != nil {
		return err
	}
	places, err := h.places(from)
	if err != nil {
		return err
	}
	remembered, err := h.state.Load(to)
	if err != nil {
		return err
	}
	remembered.Deploy = &state.Deploy{Process: process, Before: places, Former: from}
	return h.state.Save(to, remembered)
}

// cloneSetup gives a clone its original's settings, but none of its ports: these can't be had twice. So that the clone
// can be deployed all the same, its PORTS is left alone until an operator says which file is the clone's.
//
//	post-app-clone-setup OLD NEW
func cloneSetup(ctx context.Context, h *Host, args []string) error {
	from, to := args[0], args[1]
	if !h.concerns(from) {
		return nil
	}
	return h.underLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		var errs []error
		if err := h.settings.Clone(from, to); err != nil {
			errs = append(errs, fmt.Errorf("%s gets none of the settings of %s: %w", to, from, err))
		}
		// Of an app that nobody can tell it of, PORTS may ask for what the clone can't have.
		remembered, err := h.state.Load(from)
		errs = append(errs, err)
		if err == nil && remembered.Images[remembered.Current].Text == "" {
			return errors.Join(errs...)
		}
		if err := h.settings.Set(to, "ports-file", settings.IgnorePorts); err != nil {
			return errors.Join(append(errs, err)...)
		}
		h.out.Warn("%s", fmt.Sprintf("%s gets none of the public ports of %s, which can't be had twice: its PORTS is ignored. Give it a file of its own: dokku expose:set %s ports-file PORTS.%s; or, once its PORTS names other ports: dokku expose:set %s ports-file PORTS",
			to, from, to, to, to))
		return errors.Join(errs...)
	})
}
