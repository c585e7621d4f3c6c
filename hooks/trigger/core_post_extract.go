package trigger

import (
	"context"

	"dokku-expose/hooks/host"
)

// CorePostExtract removes what a deploy that failed has left for scheduler-k3s, whose own turn comes after this one, and which would fail
// the push for it.
//
//	core-post-extract APP SOURCE_DIR REVISION
func CorePostExtract(_ context.Context, h *host.Host, args []string) error {
	return kustomization(h, args[0]).Sweep()
}
