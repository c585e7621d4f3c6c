package hooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
)

// Apps implements [deploy.Host]: every app of which something is remembered or set.
func (h *Host) Apps(ctx context.Context) ([]deploy.App, error) {
	remembered, err := h.state.Apps()
	if err != nil {
		return nil, err
	}
	set, err := h.settings.Apps()
	if err != nil {
		return nil, err
	}
	names := append(remembered, set...)
	slices.Sort(names)

	var apps []deploy.App
	for _, name := range slices.Compact(names) {
		// What was left of an app that was destroyed while the plugin was disabled claims nothing.
		exists, err := h.env.Exists(name)
		if err != nil {
			return nil, err
		}
		if !exists {
			continue
		}
		app, err := h.app(name)
		if err != nil {
			return nil, err
		}
		apps = append(apps, app)
	}
	return apps, ctx.Err()
}

// app reads all that the model wants to know of one app. What is wrong with the app's own files is its Err. The error
// returned is about the host: the global settings can't be read.
func (h *Host) app(name string) (deploy.App, error) {
	app := deploy.App{Name: name}
	fail := func(err error) { app.Err = errors.Join(app.Err, err) }

	scheduler, err := h.env.Scheduler(name)
	if err != nil {
		fail(err)
	} else if scheduler != dokku.DockerLocal {
		app.Off = "scheduler " + scheduler
	}
	values, own := h.settings.Effective(name)
	if own != nil {
		fail(own)
		// What the app has goes on by the host's settings.
		if values, err = h.settings.Effective(settings.Global); err != nil {
			return deploy.App{}, err
		}
	}
	app.Upstream, app.Hold, app.HealthCheck = values.Upstream, values.Hold, values.HealthCheck
	app.Options = values.Policy.Options
	if values.OldConnections != settings.KeepOld {
		// The model's 0 keeps them; the setting's cuts at once.
		app.CutOld = max(values.OldConnections, time.Nanosecond)
	}
	switch values.HalfClosed {
	case deploy.DefaultHalfClosed:
	case 0:
		app.HalfClosed = -1
	default:
		app.HalfClosed = values.HalfClosed
	}
	// What is wrong with it is told above; what the rest of the file says goes all the same.
	set, _ := h.settings.Load(name)
	if set.Disabled {
		app.Off = "disabled"
	}
	app.Operator = operatorClaims(name, set)

	remembered, err := h.state.Load(name)
	if err != nil {
		fail(err)
	}
	if remembered.Stopped || remembered.Stopping != nil || h.closing == name {
		app.Off = "stopped"
	}
	app.Current = remembered.Current
	app.Images = make(map[string][]deploy.Claim, len(remembered.Images))
	for image, ports := range remembered.Images {
		claims, err := claimsOf(name, ports)
		if err != nil {
			fail(fmt.Errorf("PORTS of image %s: %w", image, err))
		}
		app.Images[image] = claims
	}
	if app.Places, err = h.places(name); err != nil {
		fail(err)
	}
	if d := remembered.Deploy; d != nil {
		app.Deploying = &deploy.Deployment{Before: d.Before, Former: d.Former, Retired: d.Retired}
		if d.Pending != nil {
			if app.Deploying.Pending, err = claimsOf(name, *d.Pending); err != nil {
				fail(err)
			}
		}
	}
	return app, nil
}

// claimsOf parses a remembered PORTS. It was valid when it was read.
func claimsOf(app string, ports state.Ports) ([]deploy.Claim, error) {
	entries, err := deploy.ParsePorts(ports.File, ports.Text)
	if err != nil {
		return nil, err
	}
	return deploy.FileClaims(app, ports.File, entries), nil
}

// places reads Dokku's CONTAINER files of an app.
func (h *Host) places(app string) ([]deploy.Place, error) {
	current, err := h.env.Current(app)
	if err != nil {
		return nil, err
	}
	places := make([]deploy.Place, 0, len(current))
	for _, p := range current {
		places = append(places, deploy.Place{Process: p.Process, Dyno: p.Dyno, Container: p.Container})
	}
	return places, nil
}

// concerns tells, at the cost of two system calls, whether anything is remembered or set for an app.
func (h *Host) concerns(app string) bool {
	return h.state.Known(app) || h.settings.Known(app)
}

// involved tells whether an app has public ports, or had some at its last deploy.
func (h *Host) involved(app string) (bool, error) {
	if h.state.Known(app) {
		return true, nil
	}
	if !h.settings.Known(app) {
		return false, nil
	}
	set, err := h.settings.Load(app)
	return len(set.Mappings) > 0, err
}

// local tells whether an app is involved and has its containers on this host.
func (h *Host) local(app string) (bool, error) {
	involved, err := h.involved(app)
	if !involved || err != nil {
		return false, err
	}
	scheduler, err := h.env.Scheduler(app)
	return scheduler == dokku.DockerLocal, err
}

// operatorClaims are the claims of `expose:add`.
func operatorClaims(app string, set settings.App) []deploy.Claim {
	var claims []deploy.Claim
	for _, m := range set.Mappings {
		claims = append(claims, deploy.OperatorClaims(app, m)...)
	}
	return claims
}
