package command

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/deploy/source/kube"
	"dokku-expose/hooks/host"
)

var k3sUninstallCommand = command{
	text: "Takes the ports of apps on the scheduler k3s from the nodes again",
	more: `
Public ports on these nodes are closed at once; established connections have 30 seconds. This host serves the ports on, if
it is a node of the cluster.

  dokku expose:k3s-uninstall`,
	run: func(ctx context.Context, h *host.Host, call call) error {
		if len(call.args) > 0 {
			return usageError("k3s-uninstall", fmt.Sprintf("unexpected argument %q", call.args[0]))
		}
		return UninstallEntries(ctx, h)
	},
}

// UninstallEntries takes the entry hosts away. It goes as far as it can, whatever is broken.
func UninstallEntries(ctx context.Context, h *host.Host) error {
	left := deleteEntries(ctx, h)
	err := h.UnderLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		if err := h.SetEntries(nil); err != nil {
			return err
		}
		_, err := h.Reconcile(ctx, lock)
		return err
	})
	if left != nil {
		return errors.Join(err, left, fmt.Errorf("nodes of the cluster may serve public ports still; to end that, run on one of its servers: "+
			"kubectl delete namespace/%[1]s clusterrole/%[1]s clusterrolebinding/%[1]s", host.EntryName))
	}
	if err == nil {
		h.Out.Step("No node but this host serves the public ports of apps on the scheduler k3s")
	}
	return err
}

// deleteEntries deletes all objects of the entry hosts. It goes on after an error, and returns all of them.
func deleteEntries(ctx context.Context, h *host.Host) error {
	client, err := h.Cluster()
	if err != nil {
		return err
	}
	_, objects, err := manifest(host.Entries{}, "")
	if err != nil {
		return err
	}
	slices.Reverse(objects)
	var errs []error
	for _, o := range objects {
		err := client.Delete(ctx, o)
		errs = append(errs, err)
		if errors.Is(err, kube.ErrUnreachable) {
			break
		}
	}
	return errors.Join(errs...)
}
