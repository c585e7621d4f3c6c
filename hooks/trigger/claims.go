package trigger

import (
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
)

// claimsOfContainer are the claims that a container is to serve: those of its image and the operator's, for its process
// type.
func claimsOfContainer(h *host.Host, app, process string, c deploy.Endpoint) ([]deploy.Claim, error) {
	all, err := claimsOfImage(h, app, c.Image)
	return ofProcess(all, process), err
}

// claimsOfImage are the claims of an image's PORTS, or of the current one when its own was never read, and the operator's.
func claimsOfImage(h *host.Host, app, image string) ([]deploy.Claim, error) {
	remembered, err := h.State.Load(app)
	if err != nil {
		return nil, err
	}
	ports, known := remembered.Images[image]
	if !known {
		ports = remembered.Images[remembered.Current]
	}
	return claimsWith(h, app, ports)
}

func ofProcess(claims []deploy.Claim, process string) []deploy.Claim {
	return slices.DeleteFunc(slices.Clone(claims), func(c deploy.Claim) bool { return c.Process != process })
}

// checked are the claims whose private ports may be asked whether they accept.
func checked(claims []deploy.Claim, values settings.Values) []deploy.Claim {
	return slices.DeleteFunc(slices.Clone(claims), func(c deploy.Claim) bool { return c.Unchecked(values.Policy.Options) })
}
