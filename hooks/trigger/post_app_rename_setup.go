package trigger

import (
	"context"
	"errors"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/state"
)

// PostAppRenameSetup hands ports and settings over to the new name, each whatever becomes of the other. Dokku stops the old containers before
// it deploys the new ones. Until then they go on serving, as in any deploy; after that new connections are held.
//
//	post-app-rename-setup OLD NEW
func PostAppRenameSetup(ctx context.Context, h *host.Host, args []string) error {
	from, to := args[0], args[1]
	if !h.Concerns(from) {
		return nil
	}
	return h.UnderLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		err := errors.Join(h.Settings.Rename(from, to), h.State.Rename(from, to))
		if err := carryOver(ctx, h, from, to); err != nil {
			h.Out.Warn("the containers of %s stop serving before Dokku stops them: %v", from, err)
		}
		reconcileAll(ctx, h, lock, to)
		return err
	})
}

// carryOver begins the deploy that ends a rename, with the containers or pods of the former name. Dokku copies the CONTAINER files, and the
// app's scheduler, in this very trigger, after this plugin's turn.
func carryOver(ctx context.Context, h *host.Host, from, to string) error {
	if involved, err := h.Involved(to); !involved {
		return err
	}
	process, err := h.Env.Deploy()
	if err != nil {
		return err
	}
	places, err := placesOf(ctx, h, from)
	if err != nil {
		return err
	}
	remembered, err := h.State.Load(to)
	if err != nil {
		return err
	}
	remembered.Deploy = &state.Deploy{Process: process, Before: places, Former: from}
	return h.State.Save(to, remembered)
}

// placesOf are the places of an app's containers, or of its pods.
func placesOf(ctx context.Context, h *host.Host, app string) ([]deploy.Place, error) {
	scheduler, err := h.Env.Scheduler(app)
	if err != nil {
		return nil, err
	}
	if scheduler != dokku.K3s {
		return h.Places(app)
	}
	pods, err := h.EndpointsOf(ctx, app)
	places := make([]deploy.Place, 0, len(pods))
	for _, p := range pods {
		places = append(places, deploy.Place{Process: p.Process, Dyno: p.Dyno, Container: p.ID})
	}
	return places, err
}
