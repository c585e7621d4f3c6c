package command

import (
	"context"
	"errors"
	"fmt"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
)

// move has another engine serve the ports, as set writes it down, or leaves everything as it is. The new engine must run before
// anything is taken from the old one.
func move(ctx context.Context, h *host.Host, lock *deploy.Lock, set func() error) error {
	from, err := h.EngineName()
	if err != nil {
		return err
	}
	restore, err := h.Settings.Backup(settings.Global)
	if err != nil {
		return err
	}
	former, err := h.Reconcile(ctx, lock)
	if err != nil {
		// The engine may be what has to be got away from.
		former = deploy.Outcome{}
	}
	if err := set(); err != nil {
		return err
	}
	to, err := h.EngineName()
	if err == nil && to == from {
		h.Out.Step("The engine is %s, as before", to)
		return nil
	}
	var outcome deploy.Outcome
	if err == nil {
		outcome, err = moveTo(ctx, h, lock, to, former)
	}
	if err != nil {
		err = errors.Join(err, restore())
		_, again := h.Reconcile(ctx, lock)
		return errors.Join(err, again, fmt.Errorf("the engine is still %s", from))
	}
	h.Log.Info("engine", "from", from, "to", to)
	h.Out.Step("%d public ports are served by the engine %s now", len(outcome.Table.Routes), to)
	// The daemon's deadline runs only when another one takes over from it.
	most := ", or worker-deadline is over after a restart of the daemon"
	if from == settings.HAProxy {
		most = ", or worker-deadline is over"
	}
	h.Out.Detail("Established connections stay with the engine %s until they end%s", from, most)
	return nil
}

func moveTo(ctx context.Context, h *host.Host, lock *deploy.Lock, to string, former deploy.Outcome) (deploy.Outcome, error) {
	engine, err := h.Engine()
	if err != nil {
		return deploy.Outcome{}, err
	}
	if err := host.MustRun(ctx, engine); err != nil {
		return deploy.Outcome{}, err
	}
	h.Out.Step("Moving %d public ports to the engine %s: for a moment new connections are refused", len(former.Table.Routes), to)
	outcome, err := h.Reconcile(ctx, lock)
	if err != nil {
		return outcome, err
	}
	fresh, _ := withoutProblems(outcome, former)
	var errs []error
	for _, p := range fresh.Problems {
		if !host.Passing(p) {
			errs = append(errs, p)
		}
	}
	return outcome, errors.Join(errs...)
}
