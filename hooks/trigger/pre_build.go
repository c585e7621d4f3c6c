package trigger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
)

// PreBuild reads PORTS from the source tree of a deploy. What is wrong with it stops the push here, with nothing built
// and nothing changed.
//
// It is not post-extract, which comes a moment earlier: Dokku (0.38.27, git_trigger_build) goes on whatever that says,
// since bash ignores `set -e` in what git_receive_app calls behind `||`.
//
//	pre-build BUILDER APP SOURCE_DIR
func PreBuild(ctx context.Context, h *host.Host, args []string) error {
	app, dir := args[1], args[2]
	values, err := h.Settings.Effective(app)
	if err != nil {
		return unlessIdle(h, app, dir, err)
	}
	ports := state.Ports{File: values.PortsFile}
	if values.PortsFile == settings.IgnorePorts {
		// A clone gets the setting by itself, and its PORTS may be one of its own by now.
		if _, err := host.ReadSource(dir, defaultPortsFile); err == nil {
			h.Out.Step("The file %s of %s is ignored, as the setting ports-file says; to have it read: dokku expose:set %s ports-file %s",
				defaultPortsFile, app, app, defaultPortsFile)
		}
	} else {
		text, missing := host.ReadSource(dir, values.PortsFile)
		switch {
		case errors.Is(missing, fs.ErrNotExist):
			fromImage, err := h.Env.FromImage(app, dir)
			if err != nil {
				return err
			}
			if fromImage != "" {
				// This tree is a Dockerfile of Dokku's; the app's own files are in the image.
				return expectImage(ctx, h, app)
			}
			if involved, err := h.Involved(app); !involved {
				return err
			}
			if errors.Is(missing, host.ErrFolder) {
				h.Out.Warn("%s: %s is a folder, so the app has no PORTS file; another path for it: dokku expose:set %s ports-file PATH", app, values.PortsFile, app)
			}
		case missing != nil:
			return missing
		}
		ports.Text = string(text)
	}
	scheduler, err := h.Env.Scheduler(app)
	if err != nil {
		return err
	}
	if !scheduler.HasPorts() {
		if ports.Text != "" {
			h.Out.Warn("%s: %s is left alone: public ports need the scheduler %s, and the app is on %s", app, ports.File, dokku.WithPorts, scheduler)
		}
		return nil
	}
	if scheduler == dokku.K3s && ports.Text != "" {
		// A cluster that can't be asked, or whose pods this host does not reach, would end with closed ports.
		if _, err := h.EndpointsOf(ctx, app); err != nil {
			return fmt.Errorf("%s: %s can't be served: %w", app, ports.File, err)
		}
	}
	return stage(ctx, h, app, ports, "")
}

// expectImage notes that a deploy is on its way whose PORTS is in its image.
func expectImage(ctx context.Context, h *host.Host, app string) error {
	return h.UnderLock(ctx, func(context.Context, *deploy.Lock) error {
		return inDeploy(h, app, func(remembered *state.App) error {
			remembered.Deploy.FromImage = true
			return nil
		})
	})
}

// defaultPortsFile is the name of the file where no setting says another one.
const defaultPortsFile = "PORTS"

// unlessIdle is err for an app that has, or asks for, public ports, and nil for all others: what is wrong with the
// plugin's own settings must not stop the deploys of apps that don't use it.
func unlessIdle(h *host.Host, app, dir string, err error) error {
	if _, statErr := host.ReadSource(dir, defaultPortsFile); errors.Is(statErr, fs.ErrNotExist) && !h.Concerns(app) {
		return nil
	}
	return err
}
