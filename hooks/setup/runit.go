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

// runit keeps the services running in Dokku's container image. There the host is made anew with each container: Dokku
// installs its plugins before runit starts, which then finds the services.
type runit struct{ *setup }

// runitDir is the service's folder. Dokku's image has its own services in runit's default run level.
func runitDir(svc service) string {
	const level = "/etc/runit/runsvdir/default"
	if info, err := os.Stat(level); err == nil && info.IsDir() {
		return filepath.Join(level, svc.name)
	}
	return filepath.Join("/etc/service", svc.name)
}

func (r runit) install(ctx context.Context, svc service) error {
	script, err := r.render(svc.name + ".run")
	if err != nil {
		return err
	}
	dir := runitDir(svc)
	_, err = os.Stat(dir)
	first := errors.Is(err, fs.ErrNotExist)
	if first {
		// runit starts what it finds.
		if err := r.beforeFirstStart(ctx, svc); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	changed, err := replace(filepath.Join(dir, "run"), script, 0o755)
	if err != nil {
		return err
	}
	switch {
	case first:
		r.say("Wrote %s/run: runit starts it within five seconds", dir)
	case changed && svc.restartable:
		r.say("Wrote %s/run", dir)
		return r.restart(ctx, svc)
	case changed:
		r.say("Wrote %s/run: its changes take effect when HAProxy restarts, which ends all connections: sv restart %s", dir, svc.name)
	}
	return nil
}

func (r runit) running(ctx context.Context, svc service) (bool, error) {
	state, err := answer(ctx, "sv", "status", runitDir(svc))
	if errors.Is(err, exec.ErrNotFound) {
		return false, nil
	}
	return strings.HasPrefix(state, "run:"), err
}

// restart of a service that does not run is none: runit is not up yet, or an operator stopped it.
func (r runit) restart(ctx context.Context, svc service) error {
	running, err := r.running(ctx, svc)
	if err != nil || !running {
		return err
	}
	if err := run(ctx, "sv", "restart", runitDir(svc)); err != nil {
		return err
	}
	r.say("Restarted %s", svc.name)
	return nil
}

func (r runit) remove(ctx context.Context, svc service) error {
	dir := runitDir(svc)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	running, err := r.running(ctx, svc)
	if err != nil {
		return err
	}
	if running {
		// Not force-shutdown: its supervisor would end, too, and runsvdir start both again before sv has seen that they are down.
		if err := run(ctx, "sv", "-w", "15", "force-stop", dir); err != nil {
			return fmt.Errorf("stop %s: %w", svc.name, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	r.say("Stopped %s and removed %s", svc.name, dir)
	return nil
}

func (r runit) startCommand(svc service) string { return "sv start " + svc.name }
