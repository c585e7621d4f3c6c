package trigger

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"dokku-expose/deploy"
	"dokku-expose/deploy/source/kube"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/kustomize"
	"dokku-expose/hooks/state"
)

// SchedulerDeploy gives the PORTS of a deploy to the tag of its image, before a cluster replaces the app's pods: both versions serve
// for a while then, each by its own PORTS. Dokku calls post-deploy when all pods are replaced, so the daemon makes the switch, and a
// readiness probe is the gate: the trigger has scheduler-k3s, whose turn comes after it, give pods one.
//
//	scheduler-deploy SCHEDULER APP IMAGE_TAG PROCESS
func SchedulerDeploy(ctx context.Context, h *host.Host, args []string) error {
	scheduler, app, image := dokku.Scheduler(args[0]), args[1], kube.Tag(args[2])
	if scheduler != dokku.K3s {
		return nil
	}
	if h.State.Known(app) {
		err := h.UnderLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
			err := inDeploy(h, app, func(remembered *state.App) error {
				remembered.Stopped, remembered.Stopping = false, nil
				if remembered.Phase() >= state.Staged {
					remembered.Build(image)
					return nil
				}
				return admitUnstaged(ctx, h, app, remembered, image)
			})
			if err == nil {
				h.PublishOrWarn(ctx)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	processes, err := probed(h, app, image)
	if err != nil {
		return err
	}
	if err := kustomization(h, app).Write(processes); err != nil {
		return fmt.Errorf("pods of %s can't be given a readiness probe; to deploy without: dokku expose:set %s kustomize off: %w", app, app, err)
	}
	return nil
}

// kustomization is where scheduler-k3s keeps that of an app.
func kustomization(h *host.Host, app string) kustomize.Folder {
	return kustomize.Folder{Path: h.Env.ClusterDir(app), App: app, PID: strconv.Itoa(h.Env.PID)}
}

// probed are the process types with public ports that a cluster is to probe. A pod has one probe: of several private ports it is the
// first, and the engine finds out about the others.
func probed(h *host.Host, app, image string) (processes []kustomize.Process, err error) {
	if involved, err := h.Involved(app); !involved || err != nil {
		return nil, err
	}
	values, err := h.Settings.Effective(app)
	if err != nil || !values.Kustomize {
		return nil, err
	}
	claims, err := claimsOfImage(h, app, image)
	if err != nil {
		return nil, err
	}
	ready, err := h.Env.ReadinessChecks(app)
	if err != nil {
		return nil, err
	}
	for _, c := range claims {
		if !slices.ContainsFunc(processes, func(p kustomize.Process) bool { return p.Name == c.Process }) {
			processes = append(processes, kustomize.Process{Name: c.Process, Drain: values.DrainWait})
		}
	}
	for i := range processes {
		p := &processes[i]
		of := slices.DeleteFunc(checked(ofProcess(claims, p.Name), values), func(c deploy.Claim) bool { return c.Key.Proto != deploy.TCP })
		if values.CheckTimeout > 0 && len(of) > 0 && !slices.Contains(ready, p.Name) {
			p.Probe = of[0].Private
		}
	}
	return processes, nil
}
