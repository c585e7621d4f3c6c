package hooks

import (
	"context"
	"errors"
	"fmt"

	"dokku-expose/deploy"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
)

// postStop refuses new connections at once: an operator wanted the app to stop.
//
//	post-stop APP
func postStop(ctx context.Context, h *Host, args []string) error {
	app := args[0]
	if !h.concerns(app) {
		return nil
	}
	return h.change(ctx, app, func(remembered *state.App) {
		remembered.Stopped, remembered.Deploy = true, nil
	})
}

// change edits what is remembered of an app and makes it real.
func (h *Host) change(ctx context.Context, app string, edit func(*state.App)) error {
	return h.underLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		remembered, err := h.state.Load(app)
		if err != nil {
			return err
		}
		edit(&remembered)
		if err := h.state.Save(app, remembered); err != nil {
			return err
		}
		outcome, err := h.reconcile(ctx, lock)
		return errors.Join(err, failures(outcome, app))
	})
}

// postCreate clears away what an app of the same name left behind while the plugin was disabled: a new app must not
// begin with somebody else's ports.
//
//	post-create APP
func postCreate(ctx context.Context, h *Host, args []string) error {
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
	return h.underLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		if err := errors.Join(h.state.Remove(app), h.settings.Remove(app)); err != nil {
			return err
		}
		_, err := h.reconcile(ctx, lock)
		return err
	})
}

// renameSetup hands ports and settings over to the new name. Dokku stops the old app before it deploys the new one, so
// the ports are free for as long as that takes.
//
//	post-app-rename-setup OLD NEW
func renameSetup(ctx context.Context, h *Host, args []string) error {
	from, to := args[0], args[1]
	if !h.concerns(from) {
		return nil
	}
	return h.underLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		if err := h.settings.Rename(from, to); err != nil {
			return err
		}
		if err := h.state.Rename(from, to); err != nil {
			return err
		}
		_, err := h.reconcile(ctx, lock)
		return err
	})
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
		if err := h.settings.Clone(from, to); err != nil {
			return err
		}
		remembered, err := h.state.Load(from)
		if err != nil {
			return err
		}
		if remembered.Images[remembered.Current].Text == "" {
			return nil
		}
		if err := h.settings.Set(to, "ports-file", settings.IgnorePorts); err != nil {
			return err
		}
		h.out.Warn("%s", fmt.Sprintf("%s gets none of the public ports of %s, which can't be had twice: its PORTS is ignored. Give it a file of its own: dokku expose:set %s ports-file PORTS.%s",
			to, from, to, to))
		return nil
	})
}
