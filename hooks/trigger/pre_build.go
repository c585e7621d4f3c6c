package trigger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
	"dokku-expose/portsfile"
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
			h.Out.Warn("%s: %s is left alone: public ports need the scheduler %s, and the app is on %s", app, ports.File, dokku.DockerLocal, scheduler)
		}
		return nil
	}
	return stage(ctx, h, app, ports, "")
}

// expectImage notes that a deploy is on its way whose PORTS is in its image.
func expectImage(ctx context.Context, h *host.Host, app string) error {
	return h.UnderLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		remembered, err := h.State.Load(app)
		if err != nil {
			return err
		}
		if err := begin(h, app, &remembered); err != nil {
			return err
		}
		remembered.Deploy.FromImage = true
		return h.State.Save(app, remembered)
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

// stage admits what a deploy asks for, once a deploy, and holds it for the deploy. With an image it belongs to that.
func stage(ctx context.Context, h *host.Host, app string, ports state.Ports, image string) error {
	return h.UnderLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		remembered, err := h.State.Load(app)
		if err != nil {
			return err
		}
		if err := begin(h, app, &remembered); err != nil {
			return err
		}
		if image == "" || remembered.Phase() != state.Staged {
			if err := admitPorts(ctx, h, app, ports); err != nil {
				return err
			}
			remembered.Stage(ports)
		}
		if image != "" {
			remembered.Build(image)
		}
		return h.State.Save(app, remembered)
	})
}

// admitPorts checks the whole of what an app will ask for once ports is its PORTS.
func admitPorts(ctx context.Context, h *host.Host, app string, ports state.Ports) error {
	entries, wrong := deploy.ParsePorts(ports.File, ports.Text)
	if wrong != nil {
		wrong = withOtherUse(app, ports.File, entries, wrong)
	}
	// Lines that are right may ask for what the app can't have: all of it is told at once.
	claims := deploy.FileClaims(app, ports.File, entries)
	operator, err := operatorClaims(h, app)
	if err != nil {
		return errors.Join(wrong, err)
	}
	processes, known, err := h.Env.DeployedProcesses(app)
	if err != nil {
		return errors.Join(wrong, err)
	}
	if known {
		wrong = errors.Join(wrong, deploy.UnknownProcesses(claims, processes))
	}
	all := append(claims, operator...)
	if err := errors.Join(wrong, selfConflicts(claims, operator), h.Admit(ctx, app, all)); err != nil {
		return err
	}
	h.WarnUnreserved(all)
	return nil
}

// withOtherUse adds how a file is left alone that is called PORTS and means something else, where that may be so.
func withOtherUse(app, file string, entries []deploy.Entry, wrong error) error {
	var list portsfile.ErrorList
	other := len(entries) == 0
	if errors.As(wrong, &list) {
		other = other || slices.ContainsFunc(list, func(e *portsfile.Error) bool { return e.Like != "" })
	}
	if !other {
		return wrong
	}
	return fmt.Errorf("%w\nif %s is no list of public ports, have it left alone: dokku expose:set %s ports-file %s", wrong, file, app, settings.IgnorePorts)
}

// selfConflicts tells where the repository and the operator ask for the same.
func selfConflicts(claims, operator []deploy.Claim) error {
	var (
		holders deploy.Holders
		errs    []error
	)
	holders.Add(operator...)
	for _, c := range claims {
		if conflict := holders.Conflict(c); conflict != nil {
			errs = append(errs, fmt.Errorf("%w: dokku expose:remove %s %s", conflict, c.App, conflict.Held.Mapping()))
		}
	}
	return errors.Join(errs...)
}

func operatorClaims(h *host.Host, app string) ([]deploy.Claim, error) {
	set, err := h.Settings.Load(app)
	return host.OperatorClaims(app, set), err
}

// begin notes that the deploy of this process is on its way, with the containers that are there now.
func begin(h *host.Host, app string, remembered *state.App) error {
	process, err := h.Env.Deploy()
	if err != nil {
		return err
	}
	return remembered.Begin(process, func() ([]deploy.Place, error) { return h.Places(app) })
}

// claimsWith are the claims of the operator and of a PORTS.
func claimsWith(h *host.Host, app string, ports state.Ports) ([]deploy.Claim, error) {
	operator, err := operatorClaims(h, app)
	if err != nil {
		return nil, err
	}
	own, err := host.ClaimsOf(app, ports)
	return append(operator, own...), err
}
