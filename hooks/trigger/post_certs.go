package trigger

import (
	"context"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

// PostCerts brings an app's certificate into force, or closes its ports with TLS when it has none any more.
//
//	post-certs-update APP
//	post-certs-remove APP
func PostCerts(ctx context.Context, h *host.Host, args []string) error {
	name := args[0]
	if involved, err := h.Involved(name); !involved {
		return err
	}
	app, err := h.App(name)
	// Of an app whose PORTS can't be read nobody knows.
	if err != nil || app.Err == nil && !app.Terminates() {
		return err
	}
	var outcome deploy.Outcome
	err = h.Locked(ctx, func(ctx context.Context, lock *deploy.Lock) (err error) {
		outcome, err = h.ReconcileFor(ctx, lock, name)
		return err
	})
	h.Tell(outcome, name)
	return err
}
