package trigger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/state"
)

// PostDeploy is the switch: the PORTS of the deployed containers' image comes into force, and new connections go to the
// new containers only. When it returns an error Dokku leaves the old containers alone, and so do we.
//
//	post-deploy APP "" "" IMAGE_TAG
func PostDeploy(ctx context.Context, h *host.Host, args []string) error {
	app := args[0]
	if involved, err := h.Involved(app); !involved {
		return err
	}
	scheduler, err := h.Env.Scheduler(app)
	if err != nil {
		return err
	}
	if !scheduler.HasPorts() {
		h.Out.Warn("%s: its public ports are left alone: they need the scheduler %s, and the app is on %s", app, dokku.WithPorts, scheduler)
		return nil
	}
	if err := awaitUngated(ctx, h, app, scheduler); err != nil {
		return err
	}
	var (
		outcome deploy.Outcome
		old     []deploy.Place
		given   []deploy.Claim
		lost    uint64
	)
	err = h.UnderLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		before, err := h.State.Load(app)
		if err != nil {
			return err
		}
		if before.Deploy != nil {
			old = before.Deploy.Before
			lost = lostIn(ctx, h, app, before.Deploy)
		}
		after, err := promoted(ctx, h, app, scheduler, before)
		if err != nil {
			return err
		}
		// Without checks nothing may have looked at what this image claims.
		if err := admitUnstaged(ctx, h, app, &before, after.Current); err != nil {
			return err
		}
		if given, err = givenUp(h, app, before, after); err != nil {
			return err
		}
		if err := h.State.Save(app, after); err != nil {
			return err
		}
		if outcome, err = h.ReconcileFor(ctx, lock, app); err != nil {
			// The deploy has failed: what was in force before it is in force again as soon as its process has ended.
			return errors.Join(err, h.State.Save(app, before))
		}
		return nil
	})
	h.Tell(outcome, app)
	if lost > 0 {
		h.Log.Warn("unserved", "app", app, "connections", lost)
		h.Out.Warn("%d connections to public ports of %s were closed while it had no container for longer than its setting hold; have Dokku start new containers before it stops the old ones (dokku checks:enable %s), or hold connections longer (dokku expose:set %s hold 1m)",
			lost, app, app, app)
	}
	if err != nil {
		return fmt.Errorf("the public ports of %s were not all switched; its old containers are left running: %w", app, err)
	}
	if len(given) > 0 {
		h.Out.Step("Public ports that %s has closed, since its %s does not have them any more: %s", app, given[0].File, deploy.PublicPorts(given))
	}
	if err := leave(ctx, h, app, old); err != nil {
		// The deploy has ended well all the same.
		h.Out.Warn("the connections to old containers of %s are not waited for: %v", app, err)
	}
	return nil
}

// unserved are the connections to an app's public ports that were closed since no container came up in time.
func unserved(ctx context.Context, h *host.Host, app string) (n uint64, err error) {
	o, err := h.Counters(ctx)
	for _, r := range o.Of(app).Routes {
		n += r.Lost()
	}
	return n, err
}

// lostIn are those that were closed in a deploy without checks, whose old containers Dokku stops before it starts new ones. It is asked
// before the switch: a reload of HAProxy begins to count anew.
func lostIn(ctx context.Context, h *host.Host, app string, d *state.Deploy) uint64 {
	if len(d.Retired) == 0 {
		return 0
	}
	now, err := unserved(ctx, h, app)
	if err != nil {
		return 0 // The switch says so.
	}
	return now - min(now, d.Unserved)
}

// promoted is what is to be remembered of an app once the deploy on its way has ended well.
func promoted(ctx context.Context, h *host.Host, app string, scheduler dokku.Scheduler, remembered state.App) (state.App, error) {
	endpoints, err := h.EndpointsOf(ctx, app)
	if err != nil {
		return state.App{}, err
	}
	deployed, err := deployedNow(h, app, scheduler, endpoints)
	if err != nil {
		return state.App{}, err
	}
	// A cluster may have some of its old pods still.
	deploying := ""
	if remembered.Phase() == state.Built {
		deploying = remembered.Deploy.Image
	}
	current, used := "", make(map[string]bool)
	for _, c := range endpoints {
		used[c.Image] = true
		if _, known := remembered.Images[c.Image]; known && slices.Contains(deployed, c.ID) && c.Running && (current == "" || current != deploying) {
			current = c.Image
		}
	}
	// An app whose process types are all scaled to 0 has no container of what it was deployed with.
	if len(deployed) == 0 {
		current = deploying
	}
	return remembered.Switched(current, used), nil
}

// deployedNow are the ids of an app's endpoints that are deployed.
func deployedNow(h *host.Host, app string, scheduler dokku.Scheduler, endpoints []deploy.Endpoint) (ids []string, err error) {
	if scheduler == dokku.K3s {
		for _, pod := range endpoints {
			if !pod.Leaving {
				ids = append(ids, pod.ID)
			}
		}
		return ids, nil
	}
	places, err := h.Places(app)
	for _, p := range places {
		ids = append(ids, p.Container)
	}
	return ids, err
}

// givenUp are the claims of the PORTS that was in force which nothing asks for after the deploy.
func givenUp(h *host.Host, app string, before, after state.App) ([]deploy.Claim, error) {
	// Lines that can't be parsed any more have been told before.
	had, _ := host.ClaimsOf(app, before.Images[before.Current])
	has, err := claimsWith(h, app, after.Images[after.Current])
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(had, func(c deploy.Claim) bool {
		return slices.ContainsFunc(has, func(o deploy.Claim) bool { return o.Key == c.Key })
	}), nil
}

// awaitUngated waits for new containers that no check has looked at (checks disabled or skipped, or a gate that is off)
// to accept, at the most as long as the gate would have. The switch is made in any case. A cluster has waited for its pods, which the
// daemon has led connections to since.
func awaitUngated(ctx context.Context, h *host.Host, app string, scheduler dokku.Scheduler) error {
	if scheduler == dokku.K3s {
		return nil
	}
	values, err := h.Settings.Effective(app)
	if err != nil {
		return err
	}
	if values.CheckTimeout == 0 {
		return nil
	}
	places, err := h.Places(app)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(values.CheckTimeout)
	for _, p := range places {
		for {
			container, err := h.Endpoint(ctx, app, p.Container)
			if err != nil || !container.Running {
				break
			}
			claims, err := claimsOfContainer(h, app, p.Process, container)
			if err != nil {
				return err
			}
			// An address that is missing is the reconcile's to tell.
			waiting, err := silent(ctx, container, values.Upstream, checked(claims, values))
			if err != nil || len(waiting) == 0 || time.Now().After(deadline) {
				break
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(gateRetry):
			}
		}
	}
	return nil
}
