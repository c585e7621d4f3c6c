package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
)

// fakeDocker answers as a Docker engine does, as far as the plugin and the rig ask it: which containers there are. It answers at
// once, where a real engine needs the longer the more containers it lists.
type fakeDocker struct {
	server http.Server

	mu         sync.Mutex
	containers []fakeContainer
	// lists counts how often all containers were asked for, calls all requests.
	lists, calls int
}

// fakeContainer is a container of an app, as Docker's API lists it.
type fakeContainer struct {
	id     string
	labels map[string]string
	listed []byte
}

// startDocker listens on a socket in dir.
func startDocker(dir string) (d *fakeDocker, host string, err error) {
	path := filepath.Join(dir, "docker.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, "", err
	}
	d = &fakeDocker{}
	d.server.Handler = d
	go func() { _ = d.server.Serve(ln) }()
	return d, "unix://" + path, nil
}

// ServeHTTP implements [http.Handler].
func (d *fakeDocker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	w.Header().Set("Api-Version", "1.47")
	w.Header().Set("Content-Type", "application/json")
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/_ping"):
	case strings.HasSuffix(path, "/containers/json"):
		d.list(w, r)
	case strings.HasSuffix(path, "/images/json"):
		_, _ = w.Write([]byte("[]"))
	case strings.HasSuffix(path, "/events"):
		// Nothing ever happens.
		w.(http.Flusher).Flush()
		d.mu.Unlock()
		<-r.Context().Done()
		d.mu.Lock()
	default:
		http.Error(w, `{"message": "this is no real Docker"}`, http.StatusNotFound)
	}
}

// list writes the containers that have the id and the labels that are asked for.
func (d *fakeDocker) list(w http.ResponseWriter, r *http.Request) {
	wanted, err := filters.FromJSON(r.URL.Query().Get("filters"))
	if err != nil {
		http.Error(w, `{"message": "invalid filters"}`, http.StatusBadRequest)
		return
	}
	var list [][]byte
	for _, c := range d.containers {
		if wanted.Match("id", c.id) && wanted.MatchKVList("label", c.labels) {
			list = append(list, c.listed)
		}
	}
	if len(list) == len(d.containers) {
		d.lists++
	}
	_, _ = fmt.Fprintf(w, "[%s]", bytes.Join(list, []byte(",")))
}

// add runs a container.
func (d *fakeDocker) add(c fakeContainer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.containers = append(d.containers, c)
}

// remove removes a container.
func (d *fakeDocker) remove(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.containers = slices.DeleteFunc(d.containers, func(c fakeContainer) bool { return c.id == id })
}

// clear removes all containers.
func (d *fakeDocker) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.containers = nil
}

// counts returns how often all containers were asked for, and how many requests there were, since the last call.
func (d *fakeDocker) counts() (lists, calls int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	lists, calls, d.lists, d.calls = d.lists, d.calls, 0, 0
	return lists, calls
}

// newContainer is a container of an app's as Dokku makes it, with the nth address.
func newContainer(app, id, image string, n int) (fakeContainer, error) {
	labels := map[string]string{
		"com.dokku.app-name": app, "com.dokku.container-type": "deploy", "com.dokku.process-type": "web", "com.dokku.dyno": "web.1",
		"com.dokku.image-stage": "release", "com.dokku.builder-type": "dockerfile", "dokku": "", "org.label-schema.vendor": "dokku",
		"org.label-schema.schema-version": "1.0",
	}
	summary := container.Summary{
		ID: id, Names: []string{"/" + app + ".web.1"}, Image: "dokku/" + app + ":latest", ImageID: image, Command: "/start web",
		Created: 1700000000, Labels: labels, State: container.StateRunning, Status: "Up 3 hours", Mounts: []container.MountPoint{},
		NetworkSettings: &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{network.NetworkBridge: {
			NetworkID: strings.Repeat("9", 64), EndpointID: id, Gateway: "172.17.0.1", IPAddress: containerAddr(n).String(), IPPrefixLen: 16,
			MacAddress: "02:42:ac:11:00:02",
		}}},
	}
	summary.HostConfig.NetworkMode = network.NetworkBridge
	for _, port := range privatePorts {
		summary.Ports = append(summary.Ports, container.Port{PrivatePort: port, Type: "tcp"})
	}
	listed, err := json.Marshal(summary)
	return fakeContainer{id: id, labels: labels, listed: listed}, err
}
