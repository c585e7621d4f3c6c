package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/source/docker"
	"dokku-expose/deploy/source/kube"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
)

// Apps implements [deploy.Host]: every app of which something is remembered or set.
func (h *Host) Apps(ctx context.Context) ([]deploy.App, error) {
	w, err := h.Wire()
	if err == nil {
		return w.Apps(ctx)
	}
	// Without any app the settings are of no use.
	if names, namesErr := h.appNames(); len(names) == 0 {
		return nil, namesErr
	}
	return nil, err
}

// Apps implements [deploy.Host], as [Host.Apps].
func (w Wiring) Apps(ctx context.Context) ([]deploy.App, error) {
	names, err := w.host.appNames()
	if err != nil {
		return nil, err
	}
	// Most of the time goes into system calls: opening a few small files of each app.
	var readers sync.WaitGroup
	apps, n := make([]deploy.App, len(names)), runtime.GOMAXPROCS(0)
	for first := range n {
		readers.Go(func() {
			for i := first; i < len(names); i += n {
				apps[i] = w.host.app(names[i], w.settings)
			}
		})
	}
	readers.Wait()
	return apps, ctx.Err()
}

// appNames are the apps of which something is remembered or set.
func (h *Host) appNames() ([]string, error) {
	remembered, err := h.State.Apps()
	if err != nil {
		return nil, err
	}
	set, err := h.Settings.Apps()
	if err != nil {
		return nil, err
	}
	names := append(remembered, set...)
	slices.Sort(names)
	var apps []string
	for _, name := range slices.Compact(names) {
		// An app that was destroyed while the plugin was disabled has files left here, which claim nothing.
		exists, err := h.Env.Exists(name)
		if err != nil {
			return nil, err
		}
		if exists {
			apps = append(apps, name)
		}
	}
	return apps, nil
}

// App reads all that the model wants to know of one app. What is wrong with the app's own files is its Err. The error
// returned is about the host: the global settings can't be read.
func (h *Host) App(name string) (deploy.App, error) {
	reading, err := h.Settings.Read()
	if err != nil {
		return deploy.App{}, err
	}
	return h.app(name, reading), nil
}

func (h *Host) app(name string, reading *settings.Reading) deploy.App {
	app := deploy.App{Name: name, Source: docker.Name}
	fail := func(err error) { app.Err = errors.Join(app.Err, err) }

	scheduler, err := h.Env.Scheduler(name)
	if err != nil {
		fail(err)
	} else if !scheduler.HasPorts() {
		app.Off = "scheduler " + string(scheduler)
	}
	if scheduler == dokku.K3s {
		app.Source, app.Pods = kube.Name, true
		elsewhere, err := h.elsewhere(name)
		if err != nil {
			fail(err)
		} else if elsewhere {
			app.Off = onEntryHosts
		}
	}
	// An app with wrong settings goes on by the host's, and by the rest of its file.
	values, set, err := reading.App(name)
	if err != nil {
		fail(err)
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
	if set.Disabled {
		app.Off = "disabled"
	}
	app.Operator = OperatorClaims(name, set)

	remembered, err := h.State.Load(name)
	if err != nil {
		fail(err)
	}
	if remembered.Stopped || remembered.Stopping != nil || h.Closing == name {
		app.Off = "stopped"
	}
	app.Current = remembered.Current
	app.Images = make(map[string][]deploy.Claim, len(remembered.Images))
	for image, ports := range remembered.Images {
		claims, err := ClaimsOf(name, ports)
		if err != nil {
			fail(fmt.Errorf("PORTS of image %s: %w", image, err))
		}
		app.Images[image] = claims
	}
	if app.Places, err = h.Places(name); err != nil {
		fail(err)
	}
	switch wasOnPods := kube.IsTag(app.Current); {
	case wasOnPods && !app.Pods:
		app.Left = kube.Name
	case !wasOnPods && app.Pods && len(app.Places) > 0:
		app.Left = docker.Name
	}
	if d := remembered.Deploy; d != nil {
		app.Deploying = &deploy.Deployment{Before: d.Before, Former: d.Former, Retired: d.Retired}
		if d.Pending != nil {
			if app.Deploying.Pending, err = ClaimsOf(name, *d.Pending); err != nil {
				fail(err)
			}
		}
	}
	app.ClientCA = values.Policy.ClientCA
	if app.Terminates() {
		app.Certificate, _, app.CertificateErr = h.certificate(certificateOwner(name, values))
	}
	return app
}

// ClaimsOf parses a remembered PORTS. It was valid when it was read.
func ClaimsOf(app string, ports state.Ports) ([]deploy.Claim, error) {
	entries, err := deploy.ParsePorts(ports.File, ports.Text)
	if err != nil {
		return nil, err
	}
	return deploy.FileClaims(app, ports.File, entries), nil
}

// Places reads Dokku's CONTAINER files of an app.
func (h *Host) Places(app string) ([]deploy.Place, error) {
	current, err := h.Env.Current(app)
	if err != nil {
		return nil, err
	}
	places := make([]deploy.Place, 0, len(current))
	for _, p := range current {
		places = append(places, deploy.Place{Process: p.Process, Dyno: p.Dyno, Container: p.Container})
	}
	return places, nil
}

// Concerns tells, at the cost of two system calls, whether anything is remembered or set for an app.
func (h *Host) Concerns(app string) bool {
	return h.State.Known(app) || h.Settings.Known(app)
}

// Involved tells whether an app has public ports, or had some at its last deploy.
func (h *Host) Involved(app string) (bool, error) {
	if h.State.Known(app) {
		return true, nil
	}
	if !h.Settings.Known(app) {
		return false, nil
	}
	set, err := h.Settings.Load(app)
	return len(set.Mappings) > 0, err
}

// Exposed tells whether an app is involved, and its scheduler one whose apps can have public ports.
func (h *Host) Exposed(app string) (bool, error) {
	involved, err := h.Involved(app)
	if !involved || err != nil {
		return false, err
	}
	scheduler, err := h.Env.Scheduler(app)
	return scheduler.HasPorts(), err
}

// OperatorClaims are the claims of `expose:add`.
func OperatorClaims(app string, set settings.App) []deploy.Claim {
	var claims []deploy.Claim
	for _, m := range set.Mappings {
		claims = append(claims, deploy.OperatorClaims(app, m)...)
	}
	return claims
}

// DrainsInVain tells that an app's drain-wait is longer than Dokku leaves its old containers running. A cluster leaves pods that long.
func (h *Host) DrainsInVain(app string, values settings.Values) error {
	if scheduler, err := h.Env.Scheduler(app); scheduler == dokku.K3s || err != nil {
		return err
	}
	retire, err := h.Env.WaitToRetire(app)
	if err != nil || values.DrainWait <= retire {
		return err
	}
	return fmt.Errorf("drain-wait is %s, but Dokku stops old containers %s after their successors are up (wait-to-retire), and their connections with them; allow them longer: dokku checks:set %s wait-to-retire %.0f",
		values.DrainWait, retire, app, math.Ceil(values.DrainWait.Seconds()))
}
