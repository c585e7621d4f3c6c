package trigger

import (
	"context"
	"errors"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/state"
)

// SchedulerRegisterRetired takes a container out of service before it is stopped. With checks on, the containers that are registered here
// go on serving until the switch.
//
//	scheduler-register-retired APP OLD_CONTAINER_ID WAIT_SECONDS
func SchedulerRegisterRetired(ctx context.Context, h *host.Host, args []string) error {
	app, id := args[0], args[1]
	// Dokku leaves the app's name out when it registers the new container of a deploy that failed.
	if app == "" {
		return nil
	}
	if exposed, err := h.Exposed(app); !exposed {
		return err
	}
	container, err := h.Endpoint(ctx, app, id)
	if errors.Is(err, host.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if disabled, err := h.Env.ChecksDisabled(app, container.Process); !disabled {
		return err
	}
	return h.UnderLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		err := inDeploy(h, app, func(remembered *state.App) error {
			// Refused now, the deploy ends with the old container running.
			image, err := brought(ctx, h, app, *remembered)
			if err != nil {
				return err
			}
			if err := admitUnstaged(ctx, h, app, remembered, image); err != nil {
				return err
			}
			remembered.Retire(container.ID, func() uint64 {
				n, _ := unserved(ctx, h, app) // That the engine can't be asked is said below.
				return n
			})
			return nil
		})
		if err != nil {
			return err
		}
		reconcileAll(ctx, h, lock, app)
		return nil
	})
}
