package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
)

// unadoptedTimeout bounds the search for apps whose PORTS no deploy has read.
const unadoptedTimeout = 20 * time.Second

// Unadopted names the deployed apps with a PORTS that no deploy has brought into force: on a host where the plugin is new, all
// that have one. The apps that could be looked at are returned with an error, too.
func (h *Host) Unadopted(ctx context.Context) (apps []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, unadoptedTimeout)
	defer cancel()
	all, err := h.Env.Apps()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, app := range all {
		waits, err := h.hasUnreadPorts(ctx, app)
		if ctx.Err() != nil {
			return apps, errors.Join(append(errs, fmt.Errorf("whether apps from %s on have a PORTS that no deploy has read could not be found out within %s", app, unadoptedTimeout))...)
		}
		errs = append(errs, err)
		if waits {
			apps = append(apps, app)
		}
	}
	return apps, errors.Join(errs...)
}

func (h *Host) hasUnreadPorts(ctx context.Context, app string) (bool, error) {
	if h.State.Known(app) {
		return false, nil
	}
	places, err := h.Places(app)
	if len(places) == 0 || err != nil {
		return false, err
	}
	scheduler, err := h.Env.Scheduler(app)
	if scheduler != dokku.DockerLocal || err != nil {
		return false, err
	}
	values, err := h.Settings.Effective(app)
	if err != nil || values.PortsFile == settings.IgnorePorts {
		// What is wrong with settings is told of the apps that have ports.
		return false, nil
	}
	ports, err := h.unreadPorts(ctx, app, values, places[0].Container)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	entries, err := deploy.ParsePorts(ports.File, ports.Text)
	// The deploy tells what is wrong with it.
	return len(entries) > 0 || err != nil, nil
}

// unreadPorts is the PORTS that ps:rebuild would read: of the app's repository, or of its image where the repository has nothing
// but a Dockerfile of Dokku's.
func (h *Host) unreadPorts(ctx context.Context, app string, values settings.Values, container string) (state.Ports, error) {
	image, err := h.Env.SourceImage(app)
	if err != nil {
		return state.Ports{}, err
	}
	if image == "" {
		text, err := h.Env.Committed(ctx, app, values.PortsFile)
		return state.Ports{File: values.PortsFile, Text: string(text)}, err
	}
	c, err := h.Endpoint(ctx, app, container)
	if errors.Is(err, ErrGone) {
		return state.Ports{}, fs.ErrNotExist
	}
	if err != nil {
		return state.Ports{}, err
	}
	ports, _, err := h.ImagePorts(ctx, app, c.Image)
	return ports, err
}

// Welcome tells of these apps when the plugin has been installed.
func (h *Host) Welcome(ctx context.Context) error {
	apps, err := h.Unadopted(ctx)
	if len(apps) > 0 {
		h.Out.Step("These apps have public ports in a PORTS already, which come into force with the next deploy:")
	}
	for _, app := range apps {
		h.Out.Detail("dokku ps:rebuild %s", app)
	}
	return err
}
