// Package docker is the Docker side of the model: which containers the apps have, where this host reaches them, what is in
// their images. It turns what Docker's API says into the types of package deploy, and keeps nothing: each call asks anew.
//
// It knows Docker's API, Dokku's labels and this host's network interfaces. It must not know settings, routes or engines,
// nor print anything, and it neither starts nor stops a container.
package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/docker/docker/client"

	"dokku-expose/deploy"
)

// ErrUnreachable is wrapped by every error whose reason is that the Docker engine does not answer.
const ErrUnreachable = deploy.Unreachable("the Docker engine")

// Name is the source's name.
const Name = "docker"

const (
	// callTimeout bounds one question to Docker, where nothing else is said. A healthy engine answers within milliseconds; one that pulls and builds on
	// a slow disk can take seconds.
	callTimeout = 30 * time.Second
	// readTimeout bounds all questions together by which ReadFile reads a file.
	readTimeout = time.Minute
)

// Client asks one Docker engine. It may be used by several goroutines at once.
type Client struct {
	api *client.Client
	// bound is what one question may take, a time.Duration.
	bound atomic.Int64
}

var _ deploy.Source = (*Client)(nil)

// New makes a client for the engine that DOCKER_HOST names, by default unix:///var/run/docker.sock; the other DOCKER_*
// variables count as they do for the docker command. It does not connect yet. The version of the API is negotiated.
func New() (*Client, error) {
	api, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("the environment variables DOCKER_* don't name a Docker engine (DOCKER_HOST is %q): %w", os.Getenv("DOCKER_HOST"), err)
	}
	c := &Client{api: api}
	c.Bound(callTimeout)
	return c, nil
}

// Bound sets how long Docker may take to answer one question from now on, whichever it is; 30 seconds is what it is at first.
// It returns the former bound.
func (c *Client) Bound(d time.Duration) (former time.Duration) {
	return time.Duration(c.bound.Swap(int64(d)))
}

// within bounds one question.
func (c *Client) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(c.bound.Load()))
}

// Ping tells whether Docker answers at all.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := c.within(ctx)
	defer cancel()
	if _, err := c.api.Ping(ctx); err != nil {
		return c.failed("asking Docker", err)
	}
	return nil
}

// Close closes idle connections.
func (c *Client) Close() error { return c.api.Close() }

// failed tells what could not be done, why, and what helps.
func (c *Client) failed(what string, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w at %s: no answer in time: see `systemctl status docker` and the load of the host", what, ErrUnreachable, c.api.DaemonHost())
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w at %s: user id %d may not use it: put that user into the group docker (`usermod -aG docker USER`): %w",
			what, ErrUnreachable, c.api.DaemonHost(), os.Geteuid(), err)
	case client.IsErrConnectionFailed(err):
		return fmt.Errorf("%s: %w at %s: see `systemctl status docker`: %w", what, ErrUnreachable, c.api.DaemonHost(), err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
