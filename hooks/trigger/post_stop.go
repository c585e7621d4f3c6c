package trigger

import (
	"context"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

// PostStop refuses new connections at once: an operator wanted the app to stop.
//
//	post-stop APP
func PostStop(ctx context.Context, h *host.Host, args []string) error {
	app := args[0]
	// With an error too: an app whose settings can't be read is to stop all the same.
	if involved, err := h.Involved(app); !involved && err == nil {
		return nil
	}
	return h.Locked(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		return giveUpAll(ctx, h, lock, app, "dokku ps:stop "+app, func() error {
			remembered, err := h.State.Load(app)
			if err != nil {
				return err
			}
			remembered.Stopped, remembered.Stopping, remembered.Deploy = true, nil, nil
			return h.State.Save(app, remembered)
		})
	})
}
