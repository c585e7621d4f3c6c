package hooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/state"
)

// retired takes a container out of service before it is stopped. With checks on, the containers that are registered here
// go on serving until the switch.
//
//	scheduler-register-retired APP OLD_CONTAINER_ID WAIT_SECONDS
func retired(ctx context.Context, h *Host, args []string) error {
	app, id := args[0], args[1]
	// Dokku leaves the app's name out when it registers the new container of a deploy that failed.
	if app == "" {
		return nil
	}
	if local, err := h.local(app); !local {
		return err
	}
	client, err := h.docker()
	if err != nil {
		return err
	}
	container, err := find(ctx, client, app, id)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if disabled, err := h.env.ChecksDisabled(app, container.Process); !disabled {
		return err
	}
	return h.underLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		remembered, err := h.state.Load(app)
		if err != nil {
			return err
		}
		if err := h.begin(app, &remembered); err != nil {
			return err
		}
		// Refused now, the deploy ends with the old container running.
		image, err := h.brought(ctx, client, app, remembered)
		if err != nil {
			return err
		}
		if err := h.admitUnstaged(ctx, app, &remembered, image); err != nil {
			return err
		}
		if len(remembered.Deploy.Retired) == 0 {
			// That the engine can't be asked is said below.
			remembered.Deploy.Unserved, _ = h.unserved(ctx, app)
		}
		remembered.Deploy.Retired = append(remembered.Deploy.Retired, container.ID)
		if err := h.state.Save(app, remembered); err != nil {
			return err
		}
		h.settle(ctx, lock, app)
		return nil
	})
}

// postProcess lets new containers serve where no old one is alive any more.
//
//	scheduler-post-deploy-process APP PROC
func postProcess(ctx context.Context, h *Host, args []string) error {
	app := args[0]
	if local, err := h.local(app); !local {
		return err
	}
	return h.underLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		h.settle(ctx, lock, app)
		return nil
	})
}

// postDeploy is the switch: the PORTS of the deployed containers' image comes into force, and new connections go to the
// new containers only. When it returns an error Dokku leaves the old containers alone, and so do we.
//
//	post-deploy APP "" "" IMAGE_TAG
func postDeploy(ctx context.Context, h *Host, args []string) error {
	app := args[0]
	if involved, err := h.involved(app); !involved {
		return err
	}
	scheduler, err := h.env.Scheduler(app)
	if err != nil {
		return err
	}
	if scheduler != dokku.DockerLocal {
		h.out.Warn("%s: its public ports are left alone: they need the scheduler %s, and the app is on %s", app, dokku.DockerLocal, scheduler)
		return nil
	}
	if err := h.awaitUngated(ctx, app); err != nil {
		return err
	}
	var (
		outcome deploy.Outcome
		old     []deploy.Place
		given   []deploy.Claim
		lost    uint64
	)
	err = h.underLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		before, err := h.state.Load(app)
		if err != nil {
			return err
		}
		if before.Deploy != nil {
			old = before.Deploy.Before
			lost = h.lost(ctx, app, before.Deploy)
		}
		after, err := h.promoted(ctx, app, before)
		if err != nil {
			return err
		}
		// Without checks nothing may have looked at what this image claims.
		if err := h.admitUnstaged(ctx, app, &before, after.Current); err != nil {
			return err
		}
		if given, err = h.givenUp(app, before, after); err != nil {
			return err
		}
		if err := h.state.Save(app, after); err != nil {
			return err
		}
		outcome, err = h.reconcile(ctx, lock)
		if err == nil {
			err = failures(outcome, app)
		}
		if err != nil {
			// The deploy has failed: what was in force before it is in force again as soon as its process has ended.
			return errors.Join(err, h.state.Save(app, before))
		}
		return nil
	})
	h.tell(outcome, app)
	if lost > 0 {
		h.log.Warn("unserved", "app", app, "connections", lost)
		h.out.Warn("%d connections to public ports of %s were closed while it had no container for longer than its setting hold; have Dokku start new containers before it stops the old ones (dokku checks:enable %s), or hold connections longer (dokku expose:set %s hold 1m)",
			lost, app, app, app)
	}
	if err != nil {
		return fmt.Errorf("the public ports of %s were not all switched; its old containers are left running: %w", app, err)
	}
	if len(given) > 0 {
		h.out.Step("Public ports that %s has closed, since its %s does not have them any more: %s", app, given[0].File, deploy.PublicPorts(given))
	}
	if err := h.leave(ctx, app, old); err != nil {
		// The deploy has ended well all the same.
		h.out.Warn("the connections to old containers of %s are not waited for: %v", app, err)
	}
	return nil
}

// unserved are the connections to an app's public ports that were closed since no container came up in time.
func (h *Host) unserved(ctx context.Context, app string) (n uint64, err error) {
	t := h.traffic(ctx)
	for _, r := range t.seen.Of(app).Routes {
		n += r.Lost()
	}
	return n, t.err
}

// lost are those that were closed in a deploy without checks, whose old containers Dokku stops before it starts new ones. It is asked
// before the switch: a reload of HAProxy begins to count anew.
func (h *Host) lost(ctx context.Context, app string, d *state.Deploy) uint64 {
	if len(d.Retired) == 0 {
		return 0
	}
	now, err := h.unserved(ctx, app)
	if err != nil {
		return 0 // The switch says so.
	}
	return now - min(now, d.Unserved)
}

// promoted is what is to be remembered of an app once the deploy on its way has ended well.
func (h *Host) promoted(ctx context.Context, app string, remembered state.App) (state.App, error) {
	places, err := h.places(app)
	if err != nil {
		return state.App{}, err
	}
	client, err := h.docker()
	if err != nil {
		return state.App{}, err
	}
	containers, err := client.ContainersOf(ctx, app)
	if err != nil {
		return state.App{}, err
	}
	after := state.App{Current: remembered.Current, Images: make(map[string]state.Ports)}
	used := make(map[string]bool)
	for _, c := range containers {
		used[c.Image] = true
		deployed := slices.ContainsFunc(places, func(p deploy.Place) bool { return p.Container == c.ID })
		if _, known := remembered.Images[c.Image]; known && deployed && c.Running {
			after.Current = c.Image
		}
	}
	// An app whose process types are all scaled to 0 has no container of what it was deployed with.
	if d := remembered.Deploy; len(places) == 0 && d != nil && d.Image != "" {
		after.Current = d.Image
	}
	for image, ports := range remembered.Images {
		if used[image] || image == after.Current {
			after.Images[image] = ports
		}
	}
	return after, nil
}

// givenUp are the claims of the PORTS that was in force which nothing asks for after the deploy.
func (h *Host) givenUp(app string, before, after state.App) ([]deploy.Claim, error) {
	// What can't be parsed of it any more has been told before.
	had, _ := claimsOf(app, before.Images[before.Current])
	has, err := h.claimsWith(app, after.Images[after.Current])
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(had, func(c deploy.Claim) bool {
		return slices.ContainsFunc(has, func(o deploy.Claim) bool { return o.Listen == c.Listen })
	}), nil
}

// awaitUngated waits for new containers that no check has looked at (checks disabled or skipped, or a gate that is off)
// to accept, at the most as long as the gate would have. The switch is made in any case.
func (h *Host) awaitUngated(ctx context.Context, app string) error {
	values, err := h.settings.Effective(app)
	if err != nil {
		return err
	}
	if values.CheckTimeout == 0 {
		return nil
	}
	client, err := h.docker()
	if err != nil {
		return err
	}
	places, err := h.places(app)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(values.CheckTimeout)
	for _, p := range places {
		for {
			container, err := find(ctx, client, app, p.Container)
			if err != nil || !container.Running {
				break
			}
			claims, err := h.claimsOfContainer(app, p.Process, container)
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

// passing tells whether a problem is to be told, but is no failure: a container of a deploy without checks that is slow to
// start, whose connections are held, one that this host lacks something to connect to, one that serves at its former kind of address until
// the next deploy, and ports that no container serves.
func passing(p *deploy.Problem) bool {
	var outage *deploy.Outage
	return errors.As(p, &outage) || errors.Is(p, deploy.ErrNotAccepting) || errors.Is(p, deploy.ErrHostLack) || errors.Is(p, deploy.ErrAddressKept) || errors.Is(p, deploy.ErrUnended)
}

// failures are the problems of apps that mean that something was not switched.
func failures(outcome deploy.Outcome, apps ...string) error {
	var errs []error
	for _, app := range apps {
		_, problems := outcome.Of(app)
		for _, p := range problems {
			if !passing(p) {
				errs = append(errs, p)
			}
		}
	}
	return errors.Join(errs...)
}

// tell prints which public ports of an app lead where now.
func (h *Host) tell(outcome deploy.Outcome, app string) {
	routes, problems := outcome.Of(app)
	for _, p := range problems {
		if passing(p) {
			h.out.Warn("%s", p.Error())
		}
	}
	if len(routes) == 0 {
		return
	}
	h.out.Step("Public ports of %s", app)
	for _, line := range summary(routes) {
		h.out.Detail("%s", line)
	}
	if outcome.Applied.Reload != "" {
		h.out.Detail("HAProxy was reloaded: %s", outcome.Applied.Reload)
	}
}

// summary writes routes shortly, those with the same containers on one line.
func summary(routes []deploy.Route) []string {
	var (
		order []string
		names = make(map[string][]string)
		ports = make(map[string][]uint16)
	)
	for _, r := range routes {
		to := "no container; new connections are held"
		if len(r.Servers) > 0 {
			var servers []string
			for _, s := range r.Servers {
				servers = append(servers, fmt.Sprintf("%s (%.12s)", s.Dyno, s.Container))
			}
			to = strings.Join(servers, ", ")
		}
		if _, seen := names[to]; !seen {
			order = append(order, to)
			names[to] = nil
		}
		if r.Listen.IP.IsValid() {
			names[to] = append(names[to], r.Listen.String())
		} else {
			ports[to] = append(ports[to], r.Listen.Port)
		}
	}
	var lines []string
	for _, to := range order {
		from := names[to]
		if len(ports[to]) > 0 {
			from = append([]string{deploy.PortRanges(ports[to], ", ")}, from...)
		}
		lines = append(lines, strings.Join(from, ", ")+" -> "+to)
	}
	return lines
}
