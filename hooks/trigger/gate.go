package trigger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"syscall"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
)

const (
	// gateRetry is the pause between two attempts.
	gateRetry = 100 * time.Millisecond
	// gateRetryUDP is the pause where a private port of UDP is asked: a container's kernel says only about once a second that nobody has a
	// port (net.ipv4.icmp_ratelimit), and its silence is taken for an app.
	gateRetryUDP = 1100 * time.Millisecond
)

// pause is the time between two attempts at claims.
func pause(claims []deploy.Claim) time.Duration {
	if slices.ContainsFunc(claims, func(c deploy.Claim) bool { return c.Key.Proto == deploy.UDP }) {
		return gateRetryUDP
	}
	return gateRetry
}

// awaitAccepts waits until every claim's private port of the container accepts, for as long as the container runs and
// check-timeout has not passed.
func awaitAccepts(ctx context.Context, h *host.Host, app, id string, values settings.Values, claims []deploy.Claim) error {
	deadline := time.Now().Add(values.CheckTimeout)
	var waiting map[deploy.PrivatePort]error
	for {
		container, err := h.Endpoint(ctx, app, id)
		if err != nil {
			return err
		}
		if !container.Running {
			return stoppedEarly(ctx, h, container)
		}
		if waiting, err = silent(ctx, container, values.Upstream, claims); err != nil {
			return err
		}
		if len(waiting) == 0 {
			return nil
		}
		claims = of(claims, waiting)
		if time.Now().After(deadline) {
			// One that crashes again and again may run whenever it is looked at.
			if end, err := h.End(ctx, id); err == nil && end.Restarts > 0 {
				return stoppedEarly(ctx, h, container)
			}
			return notAccepting(container, values.CheckTimeout, waiting, claims)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause(claims)):
		}
	}
}

// of are the claims for those private ports. What has accepted is not asked again.
func of(claims []deploy.Claim, ports map[deploy.PrivatePort]error) []deploy.Claim {
	return slices.DeleteFunc(slices.Clone(claims), func(c deploy.Claim) bool { return ports[c.PrivatePort()] == nil })
}

// silent returns the claims' private ports on which the container accepts no connection at any of its addresses, with why.
func silent(ctx context.Context, c deploy.Endpoint, upstream deploy.Upstream, claims []deploy.Claim) (map[deploy.PrivatePort]error, error) {
	targets := make(map[deploy.PrivatePort][]deploy.Target)
	for _, claim := range claims {
		at, err := c.Targets(upstream, claim.PrivatePort())
		if err != nil {
			return nil, err
		}
		targets[claim.PrivatePort()] = at
	}
	failed := deploy.AcceptAll(ctx, slices.Concat(slices.Collect(maps.Values(targets))...))
	ports := make(map[deploy.PrivatePort]error)
	for port, at := range targets {
		if !slices.ContainsFunc(at, func(t deploy.Target) bool { return failed[t.Address()] == nil }) {
			ports[port] = failed[at[0].Address()]
		}
	}
	return ports, nil
}

// notAccepting says why a container is refused, and what to do. An address that answers, if only to refuse, is another matter than
// one that does not.
func notAccepting(c deploy.Endpoint, timeout time.Duration, waiting map[deploy.PrivatePort]error, claims []deploy.Claim) error {
	var (
		errs              []error
		refused, noAnswer bool
	)
	for _, claim := range claims {
		err, ok := waiting[claim.PrivatePort()]
		if !ok {
			continue
		}
		if remedy, lack := deploy.HostLack(err); lack {
			errs = append(errs, fmt.Errorf("%s: this host can't connect to the private port %s (%s, public port %s) of container %.12s, for a lack of its own: %w; %s",
				c.App, claim.PrivatePort(), claim.Where(), claim.Key, c.ID, err, remedy))
			continue
		}
		errs = append(errs, fmt.Errorf("%s: nothing accepts connections on the private port %s (%s, public port %s) of container %.12s after %s: %w",
			c.App, claim.PrivatePort(), claim.Where(), claim.Key, c.ID, timeout, err))
		if isNoAnswer(err) {
			noAnswer = true
		} else {
			refused = true
		}
	}
	if refused {
		errs = append(errs, fmt.Errorf("the app has to listen there on all addresses of its container: on 0.0.0.0, or on [::] with IPv4 (not IPV6_V6ONLY), not on 127.0.0.1; one that needs longer to start: dokku expose:set %s check-timeout 2m", c.App))
	}
	if noAnswer {
		errs = append(errs, fmt.Errorf("the container's address does not answer this host at all (its network mode is %q): macvlan and ipvlan networks keep their own host out, a firewall may drop the packets, and an app that accepts nobody has its queue full; "+
			"for a network that this host reaches: dokku network:set %s initial-network bridge, then dokku ps:rebuild %s", c.NetworkMode, c.App, c.App))
	}
	return errors.Join(errs...)
}

// isNoAnswer tells whether an attempt to connect ended without any answer from the address.
func isNoAnswer(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}
