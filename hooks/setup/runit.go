package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// runit keeps HAProxy running in Dokku's container image. There the host is made anew with each container: Dokku installs
// its plugins before runit starts, which then finds the service.
type runit struct{ *setup }

const runScript = Service + ".run"

// dir is the service's folder. Dokku's image has its own services in runit's default run level.
func (r runit) dir() string {
	const level = "/etc/runit/runsvdir/default"
	if info, err := os.Stat(level); err == nil && info.IsDir() {
		return filepath.Join(level, Service)
	}
	return filepath.Join("/etc/service", Service)
}

func (r runit) install(ctx context.Context) error {
	script, err := r.render(runScript)
	if err != nil {
		return err
	}
	dir := r.dir()
	_, err = os.Stat(dir)
	first := errors.Is(err, fs.ErrNotExist)
	if first {
		// runit starts what it finds, so the configuration comes first.
		if err := r.asDokku(ctx, "prepare"); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the service's folder: %w", err)
		}
	}
	changed, err := replace(filepath.Join(dir, "run"), script, 0o755)
	if err != nil {
		return fmt.Errorf("write the service's script: %w", err)
	}
	switch {
	case first:
		r.say("Wrote %s/run: runit starts it within five seconds", dir)
	case changed:
		r.say("Wrote %s/run: its changes take effect when HAProxy restarts, which ends all connections: sv restart %s", dir, Service)
	}
	return nil
}

func (r runit) running(ctx context.Context) (bool, error) {
	state, err := answer(ctx, "sv", "status", r.dir())
	if errors.Is(err, exec.ErrNotFound) {
		return false, nil
	}
	return strings.HasPrefix(state, "run:"), err
}

func (r runit) remove(ctx context.Context) error {
	dir := r.dir()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	running, err := r.running(ctx)
	if err != nil {
		return err
	}
	if running {
		if err := run(ctx, "sv", "-w", "15", "force-shutdown", dir); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	r.say("Stopped %s and removed %s", Service, dir)
	return nil
}

func (r runit) startCommand() string { return "sv start " + Service }
