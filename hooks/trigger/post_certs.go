package trigger

import (
	"context"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

// PostCerts brings an app's certificate into force, or closes the ports with TLS that it was for when there is none any more.
//
//	post-certs-update APP
//	post-certs-remove APP
func PostCerts(ctx context.Context, h *host.Host, args []string) error {
	apps, err := h.Apps(ctx)
	if err != nil {
		return err
	}
	var concerned []string
	for _, a := range apps {
		shows, err := h.Shows(a, args[0])
		// Of an app whose files can't be read nobody knows.
		if shows || err != nil || a.Err != nil && a.Name == args[0] {
			concerned = append(concerned, a.Name)
		}
	}
	if len(concerned) == 0 {
		return nil
	}
	var outcome deploy.Outcome
	err = h.Locked(ctx, func(ctx context.Context, lock *deploy.Lock) (err error) {
		outcome, err = h.ReconcileFor(ctx, lock, concerned...)
		return err
	})
	for _, app := range concerned {
		h.Tell(outcome, app)
	}
	return err
}
