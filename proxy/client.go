package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
)

// Commands are what an operator types, for messages.
type Commands struct {
	// Start starts the daemon, Restart has a new one take over from it.
	Start, Restart string
}

// Client is the built-in engine as another process sees it: it implements [deploy.Engine] over the daemon's control socket, with
// a connection for each call.
type Client struct {
	path     string
	commands Commands
}

var _ deploy.Engine = (*Client)(nil)

// NewClient makes a client of the daemon whose control socket is at path. Nothing is connected yet.
func NewClient(path string, commands Commands) *Client {
	return &Client{path: path, commands: commands}
}

// Name implements [deploy.Engine].
func (c *Client) Name() string { return EngineName }

// Serving implements [deploy.Engine].
func (c *Client) Serving(ctx context.Context) (map[deploy.Listen]deploy.Service, error) {
	serving := make(map[deploy.Listen]deploy.Service)
	r, err := c.call(ctx, request{Call: callServing})
	if errors.Is(err, deploy.ErrNotRunning) {
		return serving, nil
	}
	for _, s := range r.Serving {
		serving[s.Listen] = deploy.Service{App: s.App, Process: s.Process, Servers: s.Servers, Down: s.Down, Options: s.Options}
	}
	return serving, err
}

// Apply implements [deploy.Engine]. A daemon that does not run needs no table: it reads what is true when it starts.
func (c *Client) Apply(ctx context.Context, t deploy.Table) (deploy.Applied, error) {
	r, err := c.call(ctx, request{Call: callApply, Table: &t})
	if err != nil {
		return deploy.Applied{}, err
	}
	if r.Applied == nil {
		return deploy.Applied{}, fmt.Errorf("the daemon at %s did not say what it applied", c.path)
	}
	return *r.Applied, r.errors()
}

// Status asks the daemon what it does. One that does not run is [deploy.ErrNotRunning].
func (c *Client) Status(ctx context.Context) (Status, error) {
	r, err := c.call(ctx, request{Call: callStatus})
	if err != nil {
		return Status{}, err
	}
	if r.Status == nil {
		return Status{}, fmt.Errorf("the daemon at %s did not tell its status", c.path)
	}
	return *r.Status, nil
}

// call asks until somebody answers who is in charge: a daemon that is taken over from in the middle says so.
func (c *Client) call(ctx context.Context, r request) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for {
		answer, err := c.ask(ctx, r)
		switch {
		case err == nil && answer.TooOld:
			return response{}, fmt.Errorf("%s (version %s): let the new one take over, no connection ends: %s", answer.Error, answer.Version, c.commands.Restart)
		case err == nil && !answer.Superseded:
			if answer.Error != "" {
				return response{}, errors.New(answer.Error)
			}
			return answer, nil
		// A connection that was in the queue of a daemon that ended was never read.
		case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE):
			return response{}, err
		}
		select {
		case <-ctx.Done():
			return response{}, fmt.Errorf("the daemon at %s is being replaced for too long: %w", c.path, context.Cause(ctx))
		case <-time.After(retryInterval):
		}
	}
}

func (c *Client) ask(ctx context.Context, r request) (response, error) {
	conn, err := dialControl(ctx, c.path)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return response{}, fmt.Errorf("the daemon of dokku-expose is %w (nobody listens at %s); start it: %s", deploy.ErrNotRunning, c.path, c.commands.Start)
	case errors.Is(err, fs.ErrPermission):
		return response{}, fmt.Errorf("the daemon's control socket is for root and Dokku's group only: %w", err)
	default:
		return response{}, fmt.Errorf("the daemon's control socket: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, files, err := exchange(wire{conn}, r)
	closeAll(files)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("the daemon at %s does not answer: %w", c.path, context.Cause(ctx))
	}
	return answer, err
}
