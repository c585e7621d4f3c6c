package hooks

import (
	"context"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
)

// schedulerStop refuses new connections before Dokku stops an app's containers, which takes as long as the slowest of them:
// postStop comes after that. The ports are closed for as long as the command lives, so that one that ends halfway leaves
// them to what still runs. It never fails: Dokku would not stop the containers then.
//
//	scheduler-stop SCHEDULER APP [REMOVE_CONTAINERS]
func schedulerStop(ctx context.Context, h *Host, args []string) error {
	scheduler, app := args[0], args[1]
	if scheduler != dokku.DockerLocal {
		return nil
	}
	// With an error too: an app whose settings can't be read is to stop all the same.
	if involved, err := h.involved(app); !involved && err == nil {
		return nil
	}
	return h.locked(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		h.closing = app
		return h.giveUpAll(ctx, lock, app, "dokku ps:stop "+app, func() error { return h.noteStopping(app) })
	})
}

// noteStopping remembers which command stops the app.
func (h *Host) noteStopping(app string) error {
	remembered, err := h.state.Load(app)
	if err != nil {
		return err
	}
	process, err := h.env.Deploy()
	if err != nil {
		return err
	}
	remembered.Stopping = &process
	return h.state.Save(app, remembered)
}
