package command

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"dokku-expose/deploy"
	"dokku-expose/deploy/source/kube"
	"dokku-expose/hooks/host"
	"dokku-expose/templates"
)

var k3sInstallCommand = command{
	args: "--image <image> [--node <name>...|--all-nodes] [--print]",
	text: "Has nodes of the cluster serve the ports of apps on the scheduler k3s",
	more: `
A daemon on each node but this host, or on the nodes that are named, serves the public ports of all apps on the scheduler
k3s. It learns of each change from this host, and serves on when this host is down. The image has this program in it
(the README says how it is made). To update the daemons, or to change the nodes, run the command again: what is not given
stays as it was.

  dokku expose:k3s-install --image registry.example.com/dokku-expose:1
  dokku expose:k3s-install --image registry.example.com/dokku-expose:1 --node edge1 --node edge2
  dokku expose:k3s-install --image registry.example.com/dokku-expose:1 --print`,
	flags: func(flags *pflag.FlagSet) {
		flags.String("image", "", "the image that the nodes run; that of the last call where it is not given")
		flags.StringArray("node", nil, "a node that is to serve, may be repeated; those of the last call where none is given, at first all but this host")
		flags.Bool("all-nodes", false, "have all nodes but this host serve again")
		flags.Bool("print", false, "print the manifest and change nothing")
	},
	run: func(ctx context.Context, h *host.Host, call call) error {
		if len(call.args) > 0 {
			return usageError("k3s-install", fmt.Sprintf("unexpected argument %q", call.args[0]))
		}
		image, imageErr := call.flags.GetString("image")
		nodes, nodesErr := call.flags.GetStringArray("node")
		all, allErr := call.flags.GetBool("all-nodes")
		show, showErr := call.flags.GetBool("print")
		former, err := h.Entries()
		if err := errors.Join(imageErr, nodesErr, allErr, showErr); err != nil {
			return err
		}
		if all && len(nodes) > 0 {
			return usageError("k3s-install", "--node and --all-nodes exclude each other")
		}
		if former == nil {
			former = &host.Entries{}
		}
		// An update must not open ports on nodes that nobody has named.
		if !all && len(nodes) == 0 {
			if err != nil {
				return err
			}
			nodes = former.Nodes
		}
		entries := host.Entries{Image: cmp.Or(image, former.Image), Nodes: nodes, Version: host.Version()}
		if entries.Image == "" {
			return errors.Join(err, usageError("k3s-install", "no image was given"))
		}
		return installEntries(ctx, h, entries, show)
	},
}

// manifest renders the objects of the entry hosts, and returns its text as well. own is the name of this host's node, "" when it is none.
func manifest(entries host.Entries, own string) (text string, objects []kube.Object, err error) {
	t, err := template.New("entry.yaml").Parse(templates.Entry)
	if err != nil {
		return "", nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{"Name": host.EntryName, "Image": entries.Image, "Nodes": entries.Nodes, "Except": own})
	if err != nil {
		return "", nil, err
	}
	text = b.String()
	for documents := yaml.NewDecoder(&b); ; {
		var o map[string]any
		if err := documents.Decode(&o); errors.Is(err, io.EOF) {
			return text, objects, nil
		} else if err != nil {
			return "", nil, err
		}
		objects = append(objects, o)
	}
}

func installEntries(ctx context.Context, h *host.Host, entries host.Entries, show bool) error {
	client, err := h.Cluster()
	if err != nil {
		return err
	}
	all, own, err := client.Nodes(ctx)
	if err != nil {
		return err
	}
	entries.Foreign = own == ""
	for _, name := range entries.Nodes {
		if !slices.Contains(all, name) {
			return fmt.Errorf("the cluster has no node %q; its nodes are: %s", name, strings.Join(all, ", "))
		}
		if name == own {
			return fmt.Errorf("the node %q is this host, which serves the public ports itself", name)
		}
	}
	if len(all) == 1 && own != "" {
		return fmt.Errorf("the cluster has no other node than this host, %q, which serves the public ports itself; add one with `dokku scheduler-k3s:cluster-add`", own)
	}
	text, objects, err := manifest(entries, own)
	if err != nil {
		return err
	}
	if show {
		_, err := io.WriteString(h.Stdout, text)
		return err
	}
	// The daemons are last: they need the rest, and the table.
	daemons := objects[len(objects)-1]
	for _, o := range objects[:len(objects)-1] {
		if err := client.Apply(ctx, o); err != nil {
			return err
		}
	}
	err = h.UnderLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		if err := h.SetEntries(&entries); err != nil {
			return err
		}
		if err := h.Publish(ctx); err != nil {
			return err
		}
		_, err := h.Reconcile(ctx, lock)
		return err
	})
	if err != nil {
		return err
	}
	if err := client.Apply(ctx, daemons); err != nil {
		return err
	}
	h.Out.Step("Waiting for the entry hosts to be ready")
	ready, err := awaitRollout(ctx, client, daemons)
	if err != nil {
		return err
	}
	h.Out.Step("Entry hosts that serve the public ports of apps on the scheduler k3s: %d", ready)
	return nil
}

const (
	// rolloutTimeout is how long the nodes may take to get the image and to start it.
	rolloutTimeout = 3 * time.Minute
	// rolloutPause is the time between two looks.
	rolloutPause = 500 * time.Millisecond
)

// awaitRollout waits until all daemons are ready, and tells how many these are.
func awaitRollout(ctx context.Context, client *kube.Client, daemons kube.Object) (ready int, err error) {
	for late := time.Now().Add(rolloutTimeout); ; {
		r, err := client.RolloutOf(ctx, daemons)
		switch {
		case err == nil && r.Desired > 0 && r.Ready == r.Desired:
			return r.Ready, nil
		case time.Now().After(late) && err == nil:
			err = notReady(r)
			fallthrough
		case time.Now().After(late):
			return 0, fmt.Errorf("the entry hosts are not ready after %s, and may become so: %w", rolloutTimeout, err)
		}
		if !host.Sleep(ctx, rolloutPause) {
			return 0, fmt.Errorf("the entry hosts are not ready yet: %w", ctx.Err())
		}
	}
}

// notReady is what is wrong with entry hosts, nil when all are ready.
func notReady(r kube.Rollout) error {
	const look = "`kubectl -n " + host.EntryName + " get pods -o wide` and `kubectl -n " + host.EntryName + " logs daemonset/" + host.EntryName + "` tell more"
	switch {
	case r.Desired < 0:
		return fmt.Errorf("the cluster has not looked at their DaemonSet yet: does its controller run?")
	case r.Desired == 0:
		return fmt.Errorf("no node may be one; %s", look)
	case r.Ready == r.Desired:
		return nil
	}
	waiting := ""
	if len(r.Waiting) > 0 {
		waiting = " (" + strings.Join(r.Waiting, "; ") + ")"
	}
	return fmt.Errorf("%d of %d entry hosts are ready%s; %s", r.Ready, r.Desired, waiting, look)
}

// checkEntries looks at the entry hosts.
func checkEntries(ctx context.Context, h *host.Host) []error {
	entries, err := h.Entries()
	if entries == nil || err != nil {
		return []error{err}
	}
	client, err := h.Cluster()
	if err != nil {
		return []error{err}
	}
	_, objects, err := manifest(*entries, "")
	if err != nil {
		return []error{err}
	}
	var old error
	if entries.Version != host.Version() {
		old = fmt.Errorf("the entry hosts run version %s, and this host %s; make the image anew, and run: dokku expose:k3s-install --image IMAGE", entries.Version, host.Version())
	}
	r, err := client.RolloutOf(ctx, objects[len(objects)-1])
	switch {
	case errors.Is(err, kube.ErrMissing):
		err = fmt.Errorf("the cluster has no entry hosts any more, or not yet; run: dokku expose:k3s-install: %w", err)
	case err == nil:
		err = notReady(r)
	}
	return []error{old, err}
}
