package hooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/docker"
	"dokku-expose/hooks/settings"
)

// checkDeploy is the gate of a deploy: every mapped private port of a new container has to accept connections.
//
//	check-deploy APP CONTAINER_ID PROC PORT IP INDEX
func checkDeploy(ctx context.Context, h *Host, args []string) error {
	app, id, process := args[0], args[1], args[2]
	if local, err := h.local(app); !local {
		return err
	}
	values, err := h.settings.Effective(app)
	if err != nil {
		return err
	}
	client, err := h.docker()
	if err != nil {
		return err
	}
	container, err := find(ctx, client, app, id)
	if err != nil {
		return err
	}
	all, err := h.claimsOfImage(app, container.Image)
	if err != nil {
		return err
	}
	// All of them, whatever process type they are for: all come into force with the image.
	if err := h.underLock(ctx, func(ctx context.Context, _ *deploy.Lock) error { return h.admit(ctx, app, all) }); err != nil {
		return err
	}
	claims := ofProcess(all, process)
	if len(claims) == 0 || values.CheckTimeout == 0 {
		return nil
	}
	return h.awaitAccepts(ctx, client, app, container.ID, values, claims)
}

// claimsOfContainer are the claims that a container is to serve: those of its image and the operator's, for its process
// type.
func (h *Host) claimsOfContainer(app, process string, c deploy.Container) ([]deploy.Claim, error) {
	all, err := h.claimsOfImage(app, c.Image)
	return ofProcess(all, process), err
}

// claimsOfImage are the claims of an image's PORTS, or of the current one when its own was never read, and the operator's.
func (h *Host) claimsOfImage(app, image string) ([]deploy.Claim, error) {
	remembered, err := h.state.Load(app)
	if err != nil {
		return nil, err
	}
	ports, known := remembered.Images[image]
	if !known {
		ports = remembered.Images[remembered.Current]
	}
	return h.claimsWith(app, ports)
}

func ofProcess(claims []deploy.Claim, process string) []deploy.Claim {
	return slices.DeleteFunc(slices.Clone(claims), func(c deploy.Claim) bool { return c.Process != process })
}

// errGone tells that Docker has no such container any more.
var errGone = errors.New("is gone")

// find returns the container of the app with that id.
func find(ctx context.Context, client *docker.Client, app, id string) (deploy.Container, error) {
	containers, err := client.ContainersOf(ctx, app)
	if err != nil {
		return deploy.Container{}, err
	}
	for _, c := range containers {
		if strings.HasPrefix(c.ID, id) && id != "" {
			return c, nil
		}
	}
	return deploy.Container{}, fmt.Errorf("container %.12s %w", id, errGone)
}

const (
	// gateStay is how long a connection of the gate must stay open: long enough for a server that is not ready to close
	// it, short enough not to be felt in a deploy.
	gateStay = 200 * time.Millisecond
	// gateRetry is the pause between two attempts.
	gateRetry = 100 * time.Millisecond
)

// awaitAccepts waits until every claim's private port of the container accepts, for as long as the container runs and
// check-timeout has not passed.
func (h *Host) awaitAccepts(ctx context.Context, client *docker.Client, app, id string, values settings.Values, claims []deploy.Claim) error {
	deadline := time.Now().Add(values.CheckTimeout)
	var waiting map[uint16]error
	for {
		container, err := find(ctx, client, app, id)
		if err != nil {
			return err
		}
		if !container.Running {
			return fmt.Errorf("%s: container %.12s has stopped (%s) before its private ports accepted connections: what it said is in `dokku logs %s`",
				container.App, id, container.State, container.App)
		}
		if waiting, err = silent(ctx, container, values.Upstream, claims, gateStay); err != nil {
			return err
		}
		if len(waiting) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return notAccepting(container, values.CheckTimeout, waiting, claims)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(gateRetry):
		}
	}
}

// silent returns the claims' private ports on which the container accepts no connection that stays open for stay, with why.
func silent(ctx context.Context, c deploy.Container, upstream deploy.Upstream, claims []deploy.Claim, stay time.Duration) (map[uint16]error, error) {
	addrs := make(map[uint16]netip.AddrPort)
	for _, claim := range claims {
		addr, err := c.Addr(upstream, claim.Private)
		if err != nil {
			return nil, err
		}
		addrs[claim.Private] = addr
	}
	failed := deploy.AcceptAll(ctx, slices.Collect(maps.Values(addrs)), stay)
	ports := make(map[uint16]error)
	for port, addr := range addrs {
		if err := failed[addr]; err != nil {
			ports[port] = err
		}
	}
	return ports, nil
}

func notAccepting(c deploy.Container, timeout time.Duration, waiting map[uint16]error, claims []deploy.Claim) error {
	var errs []error
	for _, claim := range claims {
		if err, ok := waiting[claim.Private]; ok {
			errs = append(errs, fmt.Errorf("%s: nothing accepts connections on the private port %d (%s, public port %s) of container %.12s after %s: %w",
				c.App, claim.Private, claim.Where(), claim.Listen, c.ID, timeout, err))
		}
	}
	return errors.Join(append(errs, fmt.Errorf("the app has to listen there on all addresses (0.0.0.0 or [::]), not on 127.0.0.1; one that needs longer to start: dokku expose:set %s check-timeout 2m", c.App))...)
}
