package trigger

import (
	"context"
	"errors"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

// These hooks tell of what an operator does to an app. They warn of what they can't make real, but never fail for it (see trigger):
// Dokku would leave the app half stopped, half renamed or half destroyed, since it does not call the plugins after this one then.

// reconcileAll makes real what was written down.
func reconcileAll(ctx context.Context, h *host.Host, lock *deploy.Lock, app string) {
	if _, err := h.ReconcileFor(ctx, lock, app); err != nil {
		h.Out.Warn("%v", err)
		h.Out.Warn("The public ports of %s are not yet what they should be; when that is mended, run: dokku expose:sync", app)
	}
}

// giveUpAll is giveUp for all ports of an app.
func giveUpAll(ctx context.Context, h *host.Host, lock *deploy.Lock, app, again string, write func() error) error {
	outcome, _, err := h.GiveUp(ctx, lock, host.Give{App: app, Gone: host.All, Write: write, Again: again})
	return errors.Join(err, host.Failures(outcome, app))
}
