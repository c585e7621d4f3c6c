package trigger

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
	"dokku-expose/portsfile"
)

// stage admits what a deploy asks for, once a deploy, and holds it for the deploy. With an image it belongs to that.
func stage(ctx context.Context, h *host.Host, app string, ports state.Ports, image string) error {
	return h.UnderLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		return inDeploy(h, app, func(remembered *state.App) error {
			if image == "" || remembered.Phase() != state.Staged {
				if err := admitPorts(ctx, h, app, ports); err != nil {
					return err
				}
				remembered.Stage(ports)
			}
			if image != "" {
				remembered.Build(image)
			}
			return nil
		})
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

// inDeploy changes what is remembered of an app, with the deploy of this process on its way. The caller holds the lock.
func inDeploy(h *host.Host, app string, change func(*state.App) error) error {
	remembered, err := h.State.Load(app)
	if err != nil {
		return err
	}
	process, err := h.Env.Deploy()
	if err != nil {
		return err
	}
	if err := remembered.Begin(process, func() ([]deploy.Place, error) { return h.Places(app) }); err != nil {
		return err
	}
	if err := change(&remembered); err != nil {
		return err
	}
	return h.State.Save(app, remembered)
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

// brought is the image that a deploy brings back of which nobody has told yet: the one that has the app's name, if its PORTS
// never came into force. It is "" where there is none.
func brought(ctx context.Context, h *host.Host, app string, remembered state.App) (string, error) {
	client, err := h.Docker()
	if err != nil {
		return "", err
	}
	for image := range remembered.Images {
		if image == remembered.Current {
			continue
		}
		if named, err := client.HasName(ctx, image, "dokku/"+app); named || err != nil {
			return image, err
		}
	}
	return "", nil
}

// admitUnstaged checks what a deploy asks for that brings back the PORTS of an image which never came into force (ps:restart
// after a push that failed): meanwhile another app may have got what it claims. From here on it is held for the deploy. What
// this deploy has staged, and what is in force, was admitted before. The caller holds the lock, and writes remembered down.
func admitUnstaged(ctx context.Context, h *host.Host, app string, remembered *state.App, image string) error {
	ports, known := remembered.Images[image]
	if !known || image == remembered.Current || remembered.Phase() >= state.Staged {
		return nil
	}
	if err := admitPorts(ctx, h, app, ports); err != nil {
		return err
	}
	if remembered.Phase() == state.Begun {
		remembered.Stage(ports)
		remembered.Build(image)
	}
	return nil
}
