package trigger

import (
	"context"
	"errors"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

// PostDelete frees the app's ports and forgets it.
//
//	post-delete APP IMAGE_TAG
func PostDelete(ctx context.Context, h *host.Host, args []string) error {
	return forget(ctx, h, args[0])
}

func forget(ctx context.Context, h *host.Host, app string) error {
	if !h.Concerns(app) {
		return nil
	}
	// With an error too: a settings file that can't be read has to go as well.
	involved, broken := h.Involved(app)
	return h.Locked(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		err := errors.Join(h.State.Remove(app), h.Settings.Remove(app))
		if involved || broken != nil || err != nil {
			err = errors.Join(err, giveUpAll(ctx, h, lock, app, "", nil))
		}
		return err
	})
}
