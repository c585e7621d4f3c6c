package trigger

import (
	"context"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
)

// SchedulerStop refuses new connections before Dokku stops an app's containers, which takes as long as the slowest of them:
// postStop comes after that. The ports are closed for as long as the command lives, so that one that ends halfway leaves
// them to what still runs. It never fails: Dokku would not stop the containers then.
//
//	scheduler-stop SCHEDULER APP [REMOVE_CONTAINERS]
func SchedulerStop(ctx context.Context, h *host.Host, args []string) error {
	scheduler, app := dokku.Scheduler(args[0]), args[1]
	if !scheduler.HasPorts() {
		return nil
	}
	// With an error too: an app whose settings can't be read is to stop all the same.
	if involved, err := h.Involved(app); !involved && err == nil {
		return nil
	}
	return h.Locked(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		h.Closing = app
		return giveUpAll(ctx, h, lock, app, "dokku ps:stop "+app, func() error { return noteStopping(h, app) })
	})
}

// noteStopping remembers which command stops the app.
func noteStopping(h *host.Host, app string) error {
	remembered, err := h.State.Load(app)
	if err != nil {
		return err
	}
	process, err := h.Env.Deploy()
	if err != nil {
		return err
	}
	remembered.Stopping = &process
	return h.State.Save(app, remembered)
}
