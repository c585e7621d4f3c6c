package haproxy

import (
	"context"
	"net/netip"
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
