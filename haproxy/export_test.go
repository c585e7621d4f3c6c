package haproxy

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"dokku-expose/deploy"
)

// AskTimeout bounds one exchange with HAProxy that is not a reload.
const AskTimeout = askTimeout

// HoldAddrs are the addresses at which workers hold connections.
func (e *Engine) HoldAddrs() []netip.AddrPort { return e.holdAddrs() }

// Remember looks at what is in force now, and returns what puts it back.
func (e *Engine) Remember(ctx context.Context) (undo func(context.Context) error, err error) {
	live, err := e.read(ctx)
	if err != nil {
		return nil, err
	}
	last, err := e.readFiles()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return e.undo(ctx, last, live) }, nil
}

// Status is how the processes of the running HAProxy are.
type Status struct {
	Running        bool
	Master, Worker int
	OldWorkers     []int
	Stats          netip.AddrPort
	// Stale says how the running HAProxy differs from its configuration file, "" when it does not.
	Stale string
}

// Status asks the running HAProxy.
func (e *Engine) Status(ctx context.Context) (Status, error) {
	o, err := e.Observe(ctx, deploy.Health)
	if err != nil || !o.Running {
		return Status{}, err
	}
	live, err := e.identify(ctx)
	if err != nil {
		return Status{}, err
	}
	p, err := e.processes(ctx)
	if err != nil {
		return Status{}, err
	}
	s := Status{Running: true, Master: p.master, Worker: live.pid, Stats: o.Page}
	s.OldWorkers = slices.DeleteFunc(p.workers, func(pid int) bool { return pid == live.pid })
	for _, wrong := range o.Wrong {
		if strings.Contains(wrong.Error(), "runs with something else") {
			s.Stale = wrong.Error()
		}
	}
	return s, nil
}
