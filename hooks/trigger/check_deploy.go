package trigger

import (
	"context"

	"dokku-expose/deploy"
	"dokku-expose/deploy/source/docker"
	"dokku-expose/hooks/host"
)

// CheckDeploy is the gate of a deploy: every mapped private port of a new container has to accept connections, but those that nobody
// may connect to for a check.
//
//	check-deploy APP CONTAINER_ID PROC PORT IP INDEX
func CheckDeploy(ctx context.Context, h *host.Host, args []string) error {
	app, id, process := args[0], args[1], args[2]
	if exposed, err := h.Exposed(app); !exposed {
		return err
	}
	values, err := h.Settings.Effective(app)
	if err != nil {
		return err
	}
	container, err := h.Endpoint(ctx, app, id)
	if err != nil {
		return err
	}
	all, err := claimsOfImage(h, app, container.Image)
	if err != nil {
		return err
	}
	own := ofProcess(all, process)
	err = h.UnderLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		// All of them, whatever process type they are for: all come into force with the image.
		if err := h.Admit(ctx, app, all); err != nil {
			return err
		}
		return admitOnHost(ctx, h, app, container, own)
	})
	if err != nil {
		return err
	}
	claims := checked(own, values)
	if len(claims) == 0 || values.CheckTimeout == 0 {
		return nil
	}
	err = awaitAccepts(ctx, h, app, container.ID, values, claims)
	if err != nil && ctx.Err() == nil {
		quote(ctx, h, container)
	}
	return err
}

// admitOnHost looks whether a container on the host's network has its private ports for itself. The checks can't find out: the other
// app's container accepts there.
func admitOnHost(ctx context.Context, h *host.Host, app string, c deploy.Endpoint, claims []deploy.Claim) error {
	if !c.HostNetwork {
		return nil
	}
	var s deploy.Snapshot
	w, err := h.Wire()
	if err != nil {
		return err
	}
	if s.Apps, err = w.Apps(ctx); err != nil {
		return err
	}
	endpoints, err := h.Containers(ctx)
	if err != nil {
		return err
	}
	s.Sources = map[string]deploy.Listing{docker.Name: {Endpoints: endpoints, Trust: deploy.Fresh}}
	if _, s.Serving, err = w.Serving(ctx); err != nil {
		return err
	}
	return deploy.Contested(s, app, c, claims)
}
