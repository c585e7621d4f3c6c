package hooks

import (
	"context"
	"errors"
	"io"

	"dokku-expose/hooks/host"
)

// StopDaemon ends all daemons of a host, as its uninstallation does.
func StopDaemon(ctx context.Context, getenv func(string) string) error {
	h, err := host.New(getenv, nil, io.Discard, io.Discard)
	if err != nil {
		return err
	}
	return errors.Join(stopDaemon(ctx, h), h.Close())
}
