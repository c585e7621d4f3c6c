package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"dokku-expose/deploy"
	"dokku-expose/deploy/source/docker"
	"dokku-expose/deploy/source/kube"
	"dokku-expose/hooks/dokku"
)

// MainSource is the name of the source that is there on every host of this one's kind.
func (h *Host) MainSource() string {
	if h.Node != "" {
		return kube.Name
	}
	return docker.Name
}

// Sources are those of all apps, by name.
func (h *Host) Sources() (map[string]deploy.Source, error) {
	if h.Watched != nil {
		return h.Watched, nil
	}
	if h.Node != "" {
		return map[string]deploy.Source{kube.Name: cluster{h}}, nil
	}
	client, err := h.Docker()
	if err != nil {
		return nil, err
	}
	return map[string]deploy.Source{docker.Name: client, kube.Name: cluster{h}}, nil
}

// cluster is the source of pods. It reads how to reach the Kubernetes cluster whenever it is asked: most hosts have none, and another one
// may be named while the daemon lives.
type cluster struct{ host *Host }

// Cluster is the client of the cluster that scheduler-k3s deploys to.
func (h *Host) Cluster() (*kube.Client, error) {
	h.docked.Lock()
	defer h.docked.Unlock()
	path, name, err := h.Env.Cluster()
	if err != nil {
		return nil, err
	}
	entries, err := h.Entries()
	if err != nil {
		return nil, err
	}
	config := kube.Config{
		Kubeconfig: path, Context: name, Namespace: h.Env.Namespace, Node: h.Node, Outside: entries != nil && entries.Foreign,
	}
	if h.clusterClient != nil && h.clusterClient.Asks(config) {
		return h.clusterClient, nil
	}
	client, err := kube.New(config)
	if err != nil {
		return nil, err
	}
	client.Bound(DaemonPatience)
	h.clusterClient = client
	return client, nil
}

func (c cluster) Endpoints(ctx context.Context) ([]deploy.Endpoint, error) {
	client, err := c.host.Cluster()
	if err != nil {
		return nil, err
	}
	return client.Endpoints(ctx)
}

func (c cluster) Watch(ctx context.Context, subscribed func() error, changed func(died string)) error {
	client, err := c.host.Cluster()
	if err != nil {
		return err
	}
	return client.Watch(ctx, subscribed, changed)
}

// Containers are those of all apps on this host.
func (h *Host) Containers(ctx context.Context) ([]deploy.Endpoint, error) {
	client, err := h.Docker()
	if err != nil {
		return nil, err
	}
	return client.Endpoints(ctx)
}

// Endpoints are the containers and pods of all apps. lost is why a source could not be asked, by its name.
func (h *Host) Endpoints(ctx context.Context) (list []deploy.Endpoint, lost map[string]error) {
	lost = make(map[string]error)
	sources := map[string]func(context.Context) ([]deploy.Endpoint, error){docker.Name: h.Containers, kube.Name: h.pods}
	if h.Node != "" {
		delete(sources, docker.Name)
	}
	for name, ask := range sources {
		endpoints, err := ask(ctx)
		if err != nil {
			lost[name] = err
		}
		list = append(list, endpoints...)
	}
	return list, lost
}

// pods are those of all apps, none on a host without a cluster.
func (h *Host) pods(ctx context.Context) ([]deploy.Endpoint, error) {
	if exists, err := h.hasCluster(); !exists {
		return nil, err
	}
	return cluster{h}.Endpoints(ctx)
}

// takenByCluster are the ports of this host that a cluster takes, none on a host without one.
func (h *Host) takenByCluster(ctx context.Context) ([]kube.Taken, error) {
	if exists, err := h.hasCluster(); !exists {
		return nil, err
	}
	client, err := h.Cluster()
	if err != nil {
		return nil, err
	}
	return client.Taken(ctx)
}

func (h *Host) hasCluster() (bool, error) {
	path, _, err := h.Env.Cluster()
	if err != nil {
		return false, err
	}
	_, err = os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist), nil
}

// EndpointsOf are the containers or pods of one app.
func (h *Host) EndpointsOf(ctx context.Context, app string) ([]deploy.Endpoint, error) {
	scheduler, err := h.Env.Scheduler(app)
	if err != nil {
		return nil, err
	}
	if scheduler == dokku.K3s {
		client, err := h.Cluster()
		if err != nil {
			return nil, err
		}
		return client.EndpointsOf(ctx, app)
	}
	client, err := h.Docker()
	if err != nil {
		return nil, err
	}
	return client.EndpointsOf(ctx, app)
}

// ErrGone tells that Docker has no such container any more.
var ErrGone = errors.New("is gone")

// Endpoint is the container of the app with that id, or one that begins so.
func (h *Host) Endpoint(ctx context.Context, app, id string) (deploy.Endpoint, error) {
	containers, err := h.EndpointsOf(ctx, app)
	if err != nil {
		return deploy.Endpoint{}, err
	}
	for _, c := range containers {
		if strings.HasPrefix(c.ID, id) && id != "" {
			return c, nil
		}
	}
	return deploy.Endpoint{}, fmt.Errorf("container %.12s %w", id, ErrGone)
}

// End tells how a container ended.
func (h *Host) End(ctx context.Context, id string) (deploy.End, error) {
	client, err := h.Docker()
	if err != nil {
		return deploy.End{}, err
	}
	return client.End(ctx, id)
}
