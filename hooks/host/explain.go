package host

import (
	"context"
	"errors"
	"time"

	"dokku-expose/deploy"
)

// explainTimeout bounds the questions to Docker about containers that have ended. The caller may hold the host-wide lock.
const explainTimeout = time.Second

// Explain adds to outages what only Docker and Dokku know: how containers ended, and whether the app can be scaled. What
// can't be found out is left out of the message.
func (h *Host) Explain(ctx context.Context, problems []*deploy.Problem) {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	for _, p := range problems {
		var outage *deploy.Outage
		if !errors.As(p.Err, &outage) {
			continue
		}
		if refused, err := h.Env.ScaleRefused(outage.App); err == nil {
			outage.Unscalable = refused
		}
		for _, id := range outage.Ended() {
			if end, err := h.End(ctx, id); err == nil {
				outage.Explain(id, end)
			}
		}
	}
}
