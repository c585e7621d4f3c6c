package dokku

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
)

const (
	// schedulerK3s is the plugin whose properties these are.
	schedulerK3s = "scheduler-k3s"
	// kubeconfig is where k3s puts it.
	kubeconfig = "/etc/rancher/k3s/k3s.yaml"
)

// Cluster returns where scheduler-k3s reads how to reach its cluster, and the context there, "" for the file's current one.
func (e Env) Cluster() (path, context string, err error) {
	if path, err = e.property(schedulerK3s, Global, "kubeconfig-path"); err != nil {
		return "", "", err
	}
	context, err = e.property(schedulerK3s, Global, "kube-context")
	return cmp.Or(path, kubeconfig), context, err
}

// Namespace returns the namespace that scheduler-k3s puts the app into.
func (e Env) Namespace(app string) (string, error) {
	namespace, err := e.computed(schedulerK3s, app, "namespace")
	return cmp.Or(namespace, "default"), err
}

// ClusterDir is where scheduler-k3s keeps its files of the app.
func (e Env) ClusterDir(app string) string {
	return filepath.Join(e.LibRoot, "data", schedulerK3s, app)
}

// ReadinessChecks are the process types for which the app.json of the deploy on its way, or that of the last one, has a readiness check.
func (e Env) ReadinessChecks(app string) (processes []string, err error) {
	path := filepath.Join(e.LibRoot, "data", "app-json", app, "app.json")
	text, err := readFile(fmt.Sprintf("%s.%d", path, e.PID))
	if errors.Is(err, fs.ErrNotExist) {
		text, err = readFile(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var appJSON struct {
		Healthchecks map[string][]struct{ Type string }
	}
	if err := json.Unmarshal(text, &appJSON); err != nil {
		return nil, fmt.Errorf("app.json of %s: %w", app, err)
	}
	for process, checks := range appJSON.Healthchecks {
		if slices.ContainsFunc(checks, func(c struct{ Type string }) bool { return c.Type == "readiness" }) {
			processes = append(processes, process)
		}
	}
	return processes, nil
}

// SetCluster makes the folders those of a host of which all apps are on the scheduler k3s, in the cluster that a kubeconfig names.
func (e Env) SetCluster(kubeconfig string) error {
	return errors.Join(os.MkdirAll(e.Root, 0o755), os.MkdirAll(e.DataDir(), 0o755),
		e.setProperty("scheduler", Global, "selected", string(K3s)), e.setProperty(schedulerK3s, Global, "kubeconfig-path", kubeconfig))
}

// SetApp makes an app on such a host, or moves it to another namespace.
func (e Env) SetApp(app, namespace string) error {
	if err := ValidName(app); err != nil {
		return err
	}
	return errors.Join(e.setProperty(schedulerK3s, app, "namespace", namespace), os.MkdirAll(e.appDir(app), 0o755))
}

// RemoveApp removes an app from such a host.
func (e Env) RemoveApp(app string) error {
	if err := ValidName(app); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(e.appDir(app)), os.RemoveAll(filepath.Join(e.LibRoot, "config", schedulerK3s, app)))
}

func (e Env) setProperty(plugin, app, key, value string) error {
	path := filepath.Join(e.LibRoot, "config", plugin, app, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(path, []byte(value+"\n"), 0o644)
}
