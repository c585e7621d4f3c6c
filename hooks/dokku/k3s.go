package dokku

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
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
