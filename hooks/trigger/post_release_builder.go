package trigger

import (
	"context"

	"dokku-expose/hooks/host"
	"dokku-expose/hooks/state"
)

// PostReleaseBuilder puts what the deploy brings together with the image that it was built into. A deploy without a source tree
// of the app's (git:from-image, ps:start) finds PORTS in the image; ps:start gives the same source a new image, so that
// without one there the current PORTS stays.
//
//	post-release-builder BUILDER APP IMAGE
func PostReleaseBuilder(ctx context.Context, h *host.Host, args []string) error {
	app, ref := args[1], args[2]
	// The image has told Dokku by now which ports its proxy is to map; the proxy has not been told yet.
	if err := h.AdmitProxyOf(ctx, app); err != nil {
		return err
	}
	if !h.State.Known(app) {
		return nil
	}
	if exposed, err := h.Exposed(app); !exposed {
		return err
	}
	remembered, err := h.State.Load(app)
	if err != nil {
		return err
	}
	process, err := h.Env.Deploy()
	if err != nil {
		return err
	}
	client, err := h.Docker()
	if err != nil {
		return err
	}
	image, err := client.ImageID(ctx, ref)
	if err != nil {
		return err
	}
	d := remembered.Deploy
	if d == nil || d.Process != process {
		d = &state.Deploy{}
	}
	if d.Pending != nil {
		return stage(ctx, h, app, *d.Pending, image)
	}
	ports, known := remembered.Images[image]
	if !known {
		var found bool
		if ports, found, err = h.ImagePorts(ctx, app, image); err != nil {
			return err
		}
		if !found && !d.FromImage {
			ports = remembered.Images[remembered.Current]
		}
	}
	return stage(ctx, h, app, ports, image)
}
