package rig

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
)

// k3s is the scheduler that runs pods in a Kubernetes cluster.
const k3s = "k3s"

// Rollout is what a cluster is told by scheduler-k3s, after the plugin's turn: to have these pods, and no others, of an app.
type Rollout struct {
	App string
	// Image is the name of the image of new pods.
	Image string
	// Formation is how many pods each process type is to have.
	Formation map[string]int
	// Start starts a container of a process type as a pod's, and returns its id and its address.
	Start func(process string) (id, ip string, err error)
}

// imageTag is the tag that Dokku's plugin registry gives to the image of the last build, for clusters.
func (h *Host) imageTag(app string) (string, error) {
	return h.property("registry", app, "tag-version")
}

// pushImage is what registry does with a released image.
func (s *session) pushImage(app string) error {
	scheduler, err := s.scheduler(app)
	if scheduler != k3s || err != nil {
		return err
	}
	last, err := s.imageTag(app)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi("0" + last)
	if err != nil {
		return err
	}
	return s.SetProperty("registry", app, "tag-version", strconv.Itoa(n+1))
}

// rollOut has the cluster replace an app's pods by new ones, and waits for it (helm upgrade --wait).
func (s *session) rollOut(app, tag string) error {
	formation, err := s.formation(app)
	if err != nil {
		return err
	}
	counts := make(map[string]int)
	for _, p := range formation {
		counts[p.process] = p.count
	}
	return s.options.Rollout(Rollout{
		App: app, Image: "registry.example.com:5000/dokku/" + app + ":" + tag, Formation: counts,
		Start: func(process string) (id, ip string, err error) { return s.startPod(app, process) },
	})
}

func (s *session) startPod(app, process string) (id, ip string, err error) {
	command, known, err := s.startCommand(app, process)
	if err != nil {
		return "", "", err
	}
	if !known {
		return "", "", fmt.Errorf("rig: %s is missing from the Procfile of %s", process, app)
	}
	made, err := s.Docker.ContainerCreate(s.ctx, &container.Config{
		Image: s.image(app), Cmd: strings.Fields(command), Labels: map[string]string{Label: s.id},
	}, nil, nil, nil, "")
	if err != nil {
		return "", "", err
	}
	ip, err = s.startContainer(made.ID)
	return made.ID, ip, err
}

// EndPod is what a cluster does with the container of a pod that it deletes.
func (h *Host) EndPod(app, id string) error {
	if err := h.stopContainer(app, id); err != nil {
		return err
	}
	return ignoreGone(h.Docker.ContainerRemove(h.ctx, id, container.RemoveOptions{Force: true}))
}
