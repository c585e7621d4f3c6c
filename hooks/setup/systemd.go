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

// systemd keeps HAProxy running as a unit of its own.
type systemd struct{ *setup }

const (
	// unitDir is not below /etc: a unit there can't be masked.
	unitDir  = "/usr/local/lib/systemd/system"
	unitName = Service + ".service"
	unitFile = unitDir + "/" + unitName
)

func (s systemd) install(ctx context.Context) error {
	unit, err := s.render(unitName)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(unitDir, 0o755); err != nil {
		return fmt.Errorf("make the units' folder: %w", err)
	}
	changed, err := replace(unitFile, unit, 0o644)
	if err != nil {
		return fmt.Errorf("write the unit: %w", err)
	}
	if changed {
		if err := run(ctx, "systemctl", "daemon-reload"); err != nil {
			return err
		}
		s.say("Wrote %s", unitFile)
	}

	enabled, err := answer(ctx, "systemctl", "is-enabled", Service)
	if err != nil {
		return err
	}
	// An operator who wants it off stops it or masks it; neither is undone.
	if enabled != "disabled" {
		return s.tellOfRestart(ctx, changed)
	}
	// The unit does this too, but goes on when it fails. The first start must not, and the error shall reach the operator.
	if err := s.asDokku(ctx, "prepare"); err != nil {
		return err
	}
	if err := run(ctx, "systemctl", "enable", "--now", Service); err != nil {
		return fmt.Errorf("HAProxy of dokku-expose does not start; `journalctl -u %s` says why: %w", Service, err)
	}
	s.say("Started %s", Service)
	return nil
}

// tellOfRestart leaves a restart to the operator, for it ends every connection.
func (s systemd) tellOfRestart(ctx context.Context, changed bool) error {
	if !changed {
		return nil
	}
	running, err := s.running(ctx)
	if err != nil || !running {
		return err
	}
	s.say("The unit's changes take effect when HAProxy restarts, which ends all connections: systemctl restart %s", Service)
	return nil
}

func (s systemd) running(ctx context.Context) (bool, error) {
	state, err := answer(ctx, "systemctl", "is-active", Service)
	return state == "active" || state == "reloading", err
}

func (s systemd) remove(ctx context.Context) error {
	if _, err := os.Stat(unitFile); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := run(ctx, "systemctl", "disable", "--now", Service); err != nil {
		return err
	}
	if err := os.Remove(unitFile); err != nil {
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
	s.say("Stopped %s and removed %s", Service, unitFile)
	return nil
}

func (s systemd) startCommand() string { return "systemctl start " + Service }
