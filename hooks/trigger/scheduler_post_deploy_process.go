package trigger

import (
	"context"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

// SchedulerPostDeployProcess lets new containers serve where no old one is alive any more.
//
//	scheduler-post-deploy-process APP PROC
func SchedulerPostDeployProcess(ctx context.Context, h *host.Host, args []string) error {
	app := args[0]
	if exposed, err := h.Exposed(app); !exposed {
		return err
	}
	return h.UnderLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		reconcileAll(ctx, h, lock, app)
		return nil
	})
}
