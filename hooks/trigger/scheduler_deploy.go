package trigger

import (
	"context"

	"dokku-expose/deploy"
	"dokku-expose/deploy/source/kube"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/state"
)

// SchedulerDeploy gives the PORTS of a deploy to the tag of its image, before a cluster replaces the app's pods: both versions serve
// for a while then, each by its own PORTS. Dokku calls post-deploy when all pods are replaced, so the daemon makes the switch.
//
//	scheduler-deploy SCHEDULER APP IMAGE_TAG PROCESS
func SchedulerDeploy(ctx context.Context, h *host.Host, args []string) error {
	scheduler, app, image := dokku.Scheduler(args[0]), args[1], kube.Tag(args[2])
	if scheduler != dokku.K3s || !h.State.Known(app) {
		return nil
	}
	return h.UnderLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		return inDeploy(h, app, func(remembered *state.App) error {
			remembered.Stopped, remembered.Stopping = false, nil
			if remembered.Phase() >= state.Staged {
				remembered.Build(image)
				return nil
			}
			return admitUnstaged(ctx, h, app, remembered, image)
		})
	})
}
