package host

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dokku-expose/deploy"
)

// Endpoints are the containers of all apps.
func (h *Host) Endpoints(ctx context.Context) ([]deploy.Endpoint, error) {
	client, err := h.Docker()
	if err != nil {
		return nil, err
	}
	return client.Endpoints(ctx)
}

// EndpointsOf are the containers of one app.
func (h *Host) EndpointsOf(ctx context.Context, app string) ([]deploy.Endpoint, error) {
	client, err := h.Docker()
	if err != nil {
		return nil, err
	}
	return client.EndpointsOf(ctx, app)
}

// ErrGone tells that Docker has no such container any more.
var ErrGone = errors.New("is gone")

// Endpoint is the container of the app with that id, or one that begins so.
func (h *Host) Endpoint(ctx context.Context, app, id string) (deploy.Endpoint, error) {
	containers, err := h.EndpointsOf(ctx, app)
	if err != nil {
		return deploy.Endpoint{}, err
	}
	for _, c := range containers {
		if strings.HasPrefix(c.ID, id) && id != "" {
			return c, nil
		}
	}
	return deploy.Endpoint{}, fmt.Errorf("container %.12s %w", id, ErrGone)
}

// End tells how a container ended.
func (h *Host) End(ctx context.Context, id string) (deploy.End, error) {
	client, err := h.Docker()
	if err != nil {
		return deploy.End{}, err
	}
	return client.End(ctx, id)
}
