package trigger

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
	"dokku-expose/hooks/host"
)

const (
	// acceptGrace is how long post-deploy waits after the switch. A connection that was made to an old container the moment
	// before may still wait there to be accepted, and Dokku sends SIGTERM as soon as post-deploy returns: a server that
	// closes its listener then resets what waits. That explains best the one connection of 29,000 that was lost on a machine
	// with ten processes for each core.
	acceptGrace = 300 * time.Millisecond
	// drainPoll is the pause between two counts of the old containers' connections.
	drainPoll = 500 * time.Millisecond
)

// leave gives the old containers time before Dokku sends them SIGTERM, which is when post-deploy returns: a moment for what
// was connected just before the switch, and up to `drain-wait` for their connections to end by themselves. The switch is
// made; whoever interrupts the wait changes nothing of it.
func leave(ctx context.Context, h *host.Host, app string, old []deploy.Place) error {
	places, err := h.Places(app)
	if err != nil {
		return err
	}
	old = slices.DeleteFunc(old, func(p deploy.Place) bool {
		return slices.ContainsFunc(places, func(o deploy.Place) bool { return o.Container == p.Container })
	})
	if len(old) == 0 || !host.Sleep(ctx, acceptGrace) {
		return nil
	}
	values, err := h.Settings.Effective(app)
	if err != nil || values.DrainWait == 0 {
		return err
	}
	upstreams, err := upstreams(ctx, h, app, old)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(values.DrainWait)
	for told := false; ; told = true {
		n, err := listeners.Connections(upstreams)
		switch {
		case err != nil:
			return err
		case n == 0:
			if told {
				h.Out.Detail("They have ended")
			}
			return nil
		case time.Now().After(deadline):
			h.Out.Detail("%d of them are still open; they end when their containers do", n)
			return nil
		case !told:
			h.Out.Step("Waiting up to %s for %d connections to old containers of %s to end (drain-wait)", values.DrainWait, n, app)
		}
		if !host.Sleep(ctx, drainPoll) {
			return nil
		}
	}
}

// upstreams are the addresses at which the places' containers serve public ports.
func upstreams(ctx context.Context, h *host.Host, app string, places []deploy.Place) (map[netip.AddrPort]bool, error) {
	containers, err := h.EndpointsOf(ctx, app)
	if err != nil {
		return nil, err
	}
	addrs := make(map[netip.AddrPort]bool)
	for _, c := range containers {
		i := slices.IndexFunc(places, func(p deploy.Place) bool { return p.Container == c.ID })
		if i < 0 || !c.Running {
			continue
		}
		claims, err := claimsOfContainer(h, app, places[i].Process, c)
		if err != nil {
			return nil, err
		}
		for _, claim := range claims {
			// It may have been served at any of them.
			for _, u := range []deploy.Upstream{deploy.UpstreamDirect, deploy.UpstreamPublished} {
				targets, err := c.Targets(u, claim.PrivatePort())
				if err != nil {
					continue
				}
				for _, t := range targets {
					addrs[t.Addr] = true
				}
			}
		}
	}
	return addrs, nil
}
