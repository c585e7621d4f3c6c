package dokku

import "cmp"

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
