package trigger

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/state"
)

// DockerArgsProcessDeploy notes that a deploy has begun, and publishes the private ports where containers can't be reached directly.
//
//	docker-args-process-deploy APP SOURCE_TYPE IMAGE_TAG PROC [INDEX]
func DockerArgsProcessDeploy(ctx context.Context, h *host.Host, args []string) error {
	app, tag, process := args[0], args[2], args[3]
	if _, err := io.Copy(h.Stdout, h.Stdin); err != nil {
		return err
	}
	if exposed, err := h.Exposed(app); !exposed {
		return err
	}
	var claims []deploy.Claim
	err := h.UnderLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		var ports state.Ports
		err := inDeploy(h, app, func(remembered *state.App) error {
			var image string
			ports, image = portsOfDeploy(ctx, h, app, *remembered, tag)
			return admitUnstaged(ctx, h, app, remembered, image)
		})
		if err != nil {
			return err
		}
		claims, err = claimsWith(h, app, ports)
		return err
	})
	if err != nil {
		return err
	}
	values, err := h.Settings.Effective(app)
	if err != nil || values.Upstream != deploy.UpstreamPublished {
		return err
	}
	var ports []deploy.PrivatePort
	for _, c := range claims {
		if c.Process == process {
			ports = append(ports, c.PrivatePort())
		}
	}
	slices.SortFunc(ports, deploy.PrivatePort.Compare)
	var b strings.Builder
	for _, port := range slices.Compact(ports) {
		fmt.Fprintf(&b, " -p 127.0.0.1::%s", port)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	_, err = io.WriteString(h.Stdout, b.String())
	return err
}

// portsOfDeploy is the PORTS that the containers of the deploy on its way will serve, and the image that it belongs to, "" where
// the current one's is taken for want of a better: the name of an image in a registry is not known here.
func portsOfDeploy(ctx context.Context, h *host.Host, app string, remembered state.App, tag string) (ports state.Ports, image string) {
	if remembered.Phase() >= state.Staged {
		return *remembered.Deploy.Pending, ""
	}
	if client, err := h.Docker(); err == nil {
		if image, err := client.ImageID(ctx, "dokku/"+app+":"+tag); err == nil {
			if ports, known := remembered.Images[image]; known {
				return ports, image
			}
		}
	}
	return remembered.Images[remembered.Current], ""
}
