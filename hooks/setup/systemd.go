package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// systemd keeps each service running as a unit.
type systemd struct{ *setup }

// unitDir is not below /etc: a unit there can't be masked.
const unitDir = "/usr/local/lib/systemd/system"

func unitFile(svc service) string { return filepath.Join(unitDir, svc.name+".service") }

func (s systemd) install(ctx context.Context, svc service) error {
	unit, err := s.render(svc.name + ".service")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(unitDir, 0o755); err != nil {
		return err
	}
	changed, err := replace(unitFile(svc), unit, 0o644)
	if err != nil {
		return err
	}
	if changed {
		if err := run(ctx, "systemctl", "daemon-reload"); err != nil {
			return err
		}
		s.say("Wrote %s", unitFile(svc))
	}

	enabled, err := answer(ctx, "systemctl", "is-enabled", svc.name)
	if err != nil {
		return err
	}
	// An operator who wants it off stops it or masks it; neither is undone.
	if enabled != "disabled" {
		if !changed {
			return nil
		}
		return s.applyChange(ctx, svc)
	}
	if err := s.beforeFirstStart(ctx, svc); err != nil {
		return err
	}
	if err := run(ctx, "systemctl", "enable", "--now", svc.name); err != nil {
		return fmt.Errorf("it does not start; `journalctl -u %s` says why: %w", svc.name, err)
	}
	s.say("Started %s", svc.name)
	return nil
}

// applyChange restarts a running service for the sake of its new unit, or leaves that to the operator.
func (s systemd) applyChange(ctx context.Context, svc service) error {
	running, err := s.running(ctx, svc)
	if err != nil || !running {
		return err
	}
	if svc.restartable {
		return s.restart(ctx, svc)
	}
	s.say("The unit's changes take effect when HAProxy restarts, which ends all connections: systemctl restart %s", svc.name)
	return nil
}

func (s systemd) running(ctx context.Context, svc service) (bool, error) {
	state, err := answer(ctx, "systemctl", "is-active", svc.name)
	return state == "active" || state == "reloading", err
}

func (s systemd) restart(ctx context.Context, svc service) error {
	if err := run(ctx, "systemctl", "restart", svc.name); err != nil {
		return err
	}
	s.say("Restarted %s", svc.name)
	return nil
}

func (s systemd) remove(ctx context.Context, svc service) error {
	file := unitFile(svc)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := run(ctx, "systemctl", "disable", "--now", svc.name); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil {
		return err
	}
	// Made by install where it was missing.
	for _, dir := range []string{unitDir, filepath.Dir(unitDir)} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
	}
	if err := run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	s.say("Stopped %s and removed %s", svc.name, file)
	return nil
}

func (s systemd) startCommand(svc service) string { return "systemctl start " + svc.name }
