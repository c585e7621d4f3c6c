package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/proxy"
)

// ClientConfig is the daemon that a [Client] asks, and what an operator has asked of it.
type ClientConfig struct {
	// Control is the path of the daemon's control socket.
	Control string
	// Version is the one that the daemon should have, else [Client.Observe] tells of it.
	Version string
	// TotalConnections limits its connections, 0 for as many as its open files allow.
	TotalConnections int
	// Page is the address of its statistics page, the zero value for none.
	Page netip.AddrPort
	// Start and Restart are the commands with which an operator starts the daemon, and has a new one take over from it.
	Start, Restart string
}

// Client is the built-in engine: it implements [deploy.Engine] over the daemon's control socket, or within the daemon.
type Client struct {
	config ClientConfig
	// local is this process's own daemon, nil in other processes.
	local *Local
}

// Local is a daemon for its own process, see [Options.Reconcile].
type Local struct{ *daemon }

var _ deploy.Engine = (*Client)(nil)

// NewClient makes a client, which connects for each call. local is the daemon of this process, nil in other processes.
func NewClient(config ClientConfig, local *Local) *Client { return &Client{config, local} }

// Name implements [deploy.Engine].
func (c *Client) Name() string { return proxy.EngineName }

// Supports implements [deploy.Engine].
func (c *Client) Supports(r deploy.Route) error {
	if r.Key.Frontend().Overlaps(deploy.FrontendAt(c.config.Page)) {
		return fmt.Errorf("the statistics page listens on %s; choose another public port", c.config.Page)
	}
	return proxy.Supports(r)
}

// Observe implements [deploy.Engine].
func (c *Client) Observe(ctx context.Context, aspects ...deploy.Aspect) (deploy.Observation, error) {
	r, err := c.call(ctx, request{Call: callObserve, Aspects: aspects})
	if errors.Is(err, deploy.ErrNotRunning) {
		return deploy.Observation{Engine: proxy.EngineName, Routes: []deploy.RouteState{}, Old: []deploy.Process{}, Wrong: []error{err}}, nil
	}
	if err == nil && r.Observed == nil {
		err = fmt.Errorf("the daemon at %s did not tell what it serves", c.config.Control)
	}
	if err != nil {
		return deploy.Observation{}, err
	}
	o := r.Observed.Observation
	o.Running, o.Page, o.Processes = true, r.Observed.Page, r.Observed.Processes
	if slices.Contains(aspects, deploy.Health) {
		if o.Version != c.config.Version {
			o.Wrong = append(o.Wrong, fmt.Errorf("the daemon that runs is version %s, not %s; let the new one take over, no connection ends: %s", o.Version, c.config.Version, c.config.Restart))
		}
		if o.HasFew(c.config.TotalConnections) {
			o.Wrong = append(o.Wrong, fmt.Errorf("the daemon can have %d connections at a time; let its service have more open files (LimitNOFILE), then: %s", o.MaxConnections, c.config.Restart))
		}
	}
	return o, nil
}

// Apply implements [deploy.Engine]. A daemon that does not run needs no table: it reconciles when it starts.
func (c *Client) Apply(ctx context.Context, t deploy.Table) (deploy.Applied, error) {
	t.TotalConnections = c.config.TotalConnections
	r, err := c.call(ctx, request{Call: callApply, Table: &t})
	if err != nil {
		return deploy.Applied{}, err
	}
	if r.Applied == nil {
		return deploy.Applied{}, fmt.Errorf("the daemon at %s did not say what it applied", c.config.Control)
	}
	return *r.Applied, r.errors()
}

// CutOld implements [deploy.Engine].
func (c *Client) CutOld(context.Context, map[string]time.Duration) ([]deploy.Cut, error) {
	return nil, nil
}

// call asks until a daemon answers that has not been superseded.
func (c *Client) call(ctx context.Context, r request) (response, error) {
	if c.local != nil {
		answer := c.local.respond(r)
		switch {
		case answer.Superseded:
			// The caller is about to be stopped, and has nothing to tell anybody any more.
			<-ctx.Done()
			return response{}, proxy.ErrSuperseded
		case answer.Error != "":
			return response{}, errors.New(answer.Error)
		}
		return answer, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for {
		answer, err := c.ask(ctx, r)
		switch {
		case err == nil && answer.TooOld:
			return response{}, fmt.Errorf("%s (version %s): let the new one take over, no connection ends: %s", answer.Error, answer.Version, c.config.Restart)
		case err == nil && !answer.Superseded:
			if answer.Error != "" {
				return response{}, errors.New(answer.Error)
			}
			return answer, nil
		// A daemon that stopped has not read the connections in the queue of its socket.
		case err != nil && !disconnected(err):
			return response{}, err
		}
		select {
		case <-ctx.Done():
			return response{}, fmt.Errorf("the daemon at %s is being replaced for too long: %w", c.config.Control, context.Cause(ctx))
		case <-time.After(retryInterval):
		}
	}
}

func (c *Client) ask(ctx context.Context, r request) (response, error) {
	conn, err := dial(ctx, c.config.Control)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return response{}, fmt.Errorf("the daemon of dokku-expose is %w (nobody listens at %s), so no port is served; start it: %s, and see why it ended: journalctl -u dokku-expose",
			deploy.ErrNotRunning, c.config.Control, c.config.Start)
	case errors.Is(err, fs.ErrPermission):
		return response{}, fmt.Errorf("the daemon's control socket is for root and Dokku's group only: %w", err)
	default:
		return response{}, fmt.Errorf("the daemon's control socket: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, files, err := wire{conn, ours()}.exchange(r)
	closeFiles(files)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("the daemon at %s does not answer: %w", c.config.Control, context.Cause(ctx))
	}
	return answer, err
}
