package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"dokku-expose/deploy"
	"dokku-expose/deploy/source/kube"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
)

// Entry hosts are nodes of a cluster on which a DaemonSet runs the daemon: they serve the public ports of apps on the scheduler k3s as this
// host does, by a table that this host writes into a ConfigMap. The ConfigMap and the DaemonSet have this name, in a namespace of this name.
const EntryName = "dokku-expose"

// TableKey is the key of the table in the ConfigMap.
const TableKey = "table.json"

// Entries are the entry hosts that an operator has asked for.
type Entries struct {
	// Image is the name of the image that the DaemonSet runs.
	Image string `json:"image"`
	// Nodes are the names of the nodes that are entry hosts, none for all but this one.
	Nodes []string `json:"nodes,omitempty"`
	// Version is that of the plugin when they were installed, or updated.
	Version string `json:"version"`
	// Foreign tells that this host is no node of the cluster, and leaves the ports of apps there to the entry hosts.
	Foreign bool `json:"foreign,omitempty"`
}

func (h *Host) entriesFile() string { return filepath.Join(h.Env.DataDir(), "entry-hosts.json") }

// publishedFile has the table that entry hosts were told last.
func (h *Host) publishedFile() string {
	return filepath.Join(h.Env.DataDir(), "entry-hosts.table.json")
}

// Entries returns the entry hosts, nil where there are none.
func (h *Host) Entries() (*Entries, error) {
	text, err := os.ReadFile(h.entriesFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e := new(Entries)
	if err := json.Unmarshal(text, e); err != nil {
		return nil, fmt.Errorf("%s: %w; have it written anew: dokku expose:k3s-install --image IMAGE, with --all-nodes or each --node NAME", h.entriesFile(), err)
	}
	return e, nil
}

// onEntryHosts is why an app has no ports on this host when it has them elsewhere.
const onEntryHosts = "on the entry hosts"

// elsewhere tells whether an app has its ports on entry hosts, and none on this one.
func (h *Host) elsewhere(app string) (bool, error) {
	scheduler, err := h.Env.Scheduler(app)
	if scheduler != dokku.K3s || err != nil {
		return false, err
	}
	entries, err := h.Entries()
	return entries != nil && entries.Foreign, err
}

// SetEntries writes down which entry hosts there are, nil for none. The caller holds the lock.
func (h *Host) SetEntries(e *Entries) error {
	if e == nil {
		return errors.Join(removed(h.entriesFile()), removed(h.publishedFile()))
	}
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(removed(h.publishedFile()), renameio.WriteFile(h.entriesFile(), append(text, '\n'), 0o644))
}

// removed removes a file, if there is one.
func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Table is what entry hosts are told.
type Table struct {
	// Global is the host's global.toml.
	Global string `json:"global"`
	// Apps are those on the scheduler k3s of which something is remembered or set.
	Apps map[string]TableApp `json:"apps"`
}

// TableApp is what entry hosts are told of one app.
type TableApp struct {
	Namespace string `json:"namespace"`
	// Settings is the app's file of settings.
	Settings string `json:"settings,omitempty"`
	// Ports has the PORTS of each image, and tells which is in force, and whether the app is being renamed.
	Ports state.App `json:"ports"`
}

// table reads what entry hosts are to be told. Of an app whose files can't be read they keep what they were told before.
func (h *Host) table(before Table) (t Table, err error) {
	if t.Global, err = h.Settings.Text(settings.Global); err != nil {
		return Table{}, err
	}
	names, err := h.appNames()
	if err != nil {
		return Table{}, err
	}
	t.Apps = make(map[string]TableApp)
	var unread error
	for _, name := range names {
		app, on, err := h.tableApp(name)
		switch {
		case err != nil:
			unread = errors.Join(unread, fmt.Errorf("%s: %w", name, err))
			if old, known := before.Apps[name]; known {
				old.Ports.Stopped = old.Ports.Stopped || h.Closing == name
				t.Apps[name] = old
			}
		case on:
			t.Apps[name] = app
		}
	}
	return t, unread
}

// tableApp reads what is told of an app; on tells whether it is on the scheduler k3s.
func (h *Host) tableApp(name string) (app TableApp, on bool, err error) {
	scheduler, err := h.Env.Scheduler(name)
	if scheduler != dokku.K3s || err != nil {
		return TableApp{}, false, err
	}
	namespace, err := h.Env.Namespace(name)
	if err != nil {
		return TableApp{}, false, err
	}
	text, err := h.Settings.Text(name)
	if err != nil {
		return TableApp{}, false, err
	}
	ports, err := h.State.Load(name)
	// Processes are those of this host.
	ports.Stopped = ports.Stopped || ports.Stopping != nil || h.Closing == name
	ports.Stopping = nil
	if d := ports.Deploy; d != nil && d.Former != "" {
		ports.Deploy = &state.Deploy{Before: d.Before, Former: d.Former}
	} else {
		ports.Deploy = nil
	}
	return TableApp{namespace, text, ports}, true, err
}

const (
	// publishTimeout bounds what entry hosts are told, with the host-wide lock held.
	publishTimeout = time.Second
	// PublishAgain is when the daemon tries again to tell them.
	PublishAgain = 5 * time.Second
	// maxTable is what a ConfigMap holds, in bytes, but for some room for the rest of it.
	maxTable = 1<<20 - 16<<10
)

// Publish tells the entry hosts what has changed since they were told last. The caller holds the lock.
func (h *Host) Publish(ctx context.Context) error {
	entries, err := h.Entries()
	if entries == nil || err != nil {
		return err
	}
	was, err := os.ReadFile(h.publishedFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var before Table
	if err == nil {
		// It may have been cut short by a full disk.
		_ = json.Unmarshal(was, &before)
	}
	table, unread := h.table(before)
	if table.Apps == nil {
		return unread
	}
	text, err := json.MarshalIndent(table, "", "  ")
	if err != nil {
		return err
	}
	// A daemon tells it once in any case: somebody may have deleted the ConfigMap.
	if bytes.Equal(text, was) && (h.published || h.Daemon == nil) {
		return unread
	}
	if len(text) > maxTable {
		return errors.Join(unread, fmt.Errorf("the entry hosts are not told of changes any more: the PORTS files and settings of all apps on the scheduler k3s have %d bytes together, "+
			"and a ConfigMap holds %d; shorten them", len(text), maxTable))
	}
	client, err := h.Cluster()
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		defer cancel()
		err = client.Apply(ctx, tableObject(string(text)))
	}
	if err != nil {
		return errors.Join(unread, fmt.Errorf("the entry hosts go on by what they were told before; the daemon tells them when it can: %w", err))
	}
	h.published = true
	return errors.Join(unread, renameio.WriteFile(h.publishedFile(), text, 0o600))
}

// PublishOrWarn is Publish for those whose work is done all the same: the daemon tries again.
func (h *Host) PublishOrWarn(ctx context.Context) {
	if err := h.Publish(ctx); err != nil {
		h.Out.Warn("%v", err)
	}
}

// tableObject is the ConfigMap with a table in it.
func tableObject(table string) kube.Object {
	return kube.Object{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": EntryName, "namespace": EntryName},
		"data":     map[string]any{TableKey: table},
	}
}

// BecomeEntry makes the host, whose folders are its own, an entry host: its only source is the cluster, which it asks as the user of a
// kubeconfig, and its only engine is the built-in one.
func (h *Host) BecomeEntry(node, kubeconfig string) error {
	h.Node = node
	return h.Env.SetCluster(kubeconfig)
}

// Adopt makes the host's files those of a table.
func (h *Host) Adopt(ctx context.Context, text string) error {
	var table Table
	err := json.Unmarshal([]byte(text), &table)
	if err == nil && table.Apps == nil {
		err = errors.New("it has no apps")
	}
	for name := range table.Apps {
		err = errors.Join(err, dokku.ValidName(name))
	}
	if err != nil {
		return fmt.Errorf("the table in the ConfigMap %s/%s is none: %w; write it anew: dokku expose:k3s-install", EntryName, EntryName, err)
	}
	self, err := dokku.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	return h.Locked(ctx, func(context.Context, *deploy.Lock) error {
		errs := []error{h.Settings.Replace(settings.Global, table.Global)}
		for _, name := range slices.Sorted(maps.Keys(table.Apps)) {
			app := table.Apps[name]
			if app.Ports.Deploy != nil {
				// It is on its way until the Dokku host says otherwise.
				app.Ports.Deploy.Process = self
			}
			errs = append(errs, h.Env.SetApp(name, app.Namespace), h.Settings.Replace(name, app.Settings), h.State.Save(name, app.Ports))
		}
		known, err := h.Env.Apps()
		errs = append(errs, err)
		for _, name := range known {
			if _, told := table.Apps[name]; !told {
				errs = append(errs, h.Settings.Replace(name, ""), h.State.Remove(name), h.Env.RemoveApp(name))
			}
		}
		return errors.Join(errs...)
	})
}
