package command

import (
	"context"
	"errors"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
)

// editSettings writes a setting of an app, or of the host, and makes it real, and says where the app's ports lead then. A setting that
// can't be made real for the app, or of the host's for any, is put back. What was wrong before is told of the app, but is no reason
// for that: else one port that is taken would keep another one from being removed.
//
// With ofRoutes it is one of how connections to open ports are treated, which is in force without Docker, too.
func editSettings(ctx context.Context, h *host.Host, lock *deploy.Lock, app string, ofRoutes bool, write func() error) error {
	restore, err := h.Settings.Backup(app)
	if err != nil {
		return err
	}
	former, unknown := h.Reconcile(ctx, lock)
	if unknown != nil {
		// A setting may be what mends it.
		former = deploy.Outcome{}
	}
	if err := write(); err != nil {
		return err
	}
	outcome, err := h.Reconcile(ctx, lock)
	if app != settings.Global {
		err = h.Spare(err, app)
	}
	if reduced := (*deploy.ReducedError)(nil); ofRoutes && errors.As(err, &reduced) {
		h.Out.Warn("%v", err)
		h.Out.Step("It is set, and goes for the public ports that are open; dokku expose:sync makes the rest of them what they should be once Docker answers")
		return nil
	}
	if err == nil {
		var known []*deploy.Problem
		outcome, known = withoutProblems(outcome, former)
		for _, p := range known {
			if p.App == app && !host.Passing(p) {
				h.Out.Warn("%v", p)
			}
		}
		if err = host.Failures(outcome, concernedBy(app, outcome)...); app == settings.Global && unknown != nil {
			// Nobody knows whether they are new.
			h.Out.Fail(err)
			err = nil
		}
	}
	if err != nil {
		err = errors.Join(err, restore())
		_, again := h.Reconcile(ctx, lock)
		return errors.Join(err, again, errors.New("nothing was changed"))
	}
	h.Tell(outcome, app)
	if routes, _ := outcome.Of(app); len(routes) == 0 && app != settings.Global {
		h.Out.Step("No public port of %s is open now; dokku expose:list %s says why", app, app)
	}
	return nil
}

// concernedBy are the apps that a setting of scope is for, as far as an outcome tells of them.
func concernedBy(scope string, outcome deploy.Outcome) []string {
	if scope != settings.Global {
		return []string{scope}
	}
	var apps []string
	for _, p := range outcome.Problems {
		if !slices.Contains(apps, p.App) {
			apps = append(apps, p.App)
		}
	}
	return apps
}

// withoutProblems takes those problems out of an outcome that a former one had too.
func withoutProblems(outcome, former deploy.Outcome) (deploy.Outcome, []*deploy.Problem) {
	said := make(map[string]bool)
	for _, p := range former.Problems {
		said[p.Error()] = true
	}
	var fresh, known []*deploy.Problem
	for _, p := range outcome.Problems {
		if said[p.Error()] && !host.Passing(p) {
			known = append(known, p)
		} else {
			fresh = append(fresh, p)
		}
	}
	outcome.Problems = fresh
	return outcome, known
}
