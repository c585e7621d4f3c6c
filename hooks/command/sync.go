package command

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

var syncCommand = command{
	text: "Makes all public ports what they should be now",
	more: `
It reads settings and PORTS files and asks Docker anew. It is what each deploy does, for when something was changed by
hand, or to see what is wrong.

  dokku expose:sync`,
	run: func(ctx context.Context, h *host.Host, call call) error {
		if len(call.args) > 0 {
			return usageError("sync", fmt.Sprintf("unexpected argument %q", call.args[0]))
		}
		return Sync(ctx, h)
	},
}

func Sync(ctx context.Context, h *host.Host) error {
	var outcome deploy.Outcome
	err := h.UnderLock(ctx, func(ctx context.Context, lock *deploy.Lock) (err error) {
		outcome, err = h.Reconcile(ctx, lock)
		return err
	})
	if err != nil {
		return err
	}
	if client, err := h.Docker(); err == nil {
		if err := client.RemoveLeftovers(ctx); err != nil {
			h.Out.Warn("%v", err)
		}
	}
	var apps []string
	for _, r := range outcome.Table.Routes {
		apps = append(apps, r.App)
	}
	for _, p := range outcome.Problems {
		apps = append(apps, p.App)
	}
	slices.Sort(apps)
	for _, app := range slices.Compact(apps) {
		h.Tell(outcome, app)
	}
	var errs []error
	for _, p := range outcome.Problems {
		if !host.Passing(p) {
			errs = append(errs, p)
		}
	}
	return errors.Join(errs...)
}
