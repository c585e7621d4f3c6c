package hooks

import (
	"context"
	"errors"
	"io"
)

// StopDaemon ends all daemons of a host, as its uninstallation does.
func StopDaemon(ctx context.Context, getenv func(string) string) error {
	h, err := newHost(getenv, nil, io.Discard, io.Discard)
	if err != nil {
		return err
	}
	return errors.Join(h.stopDaemon(ctx), h.close())
}
