package rig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
)

// k3s is the scheduler that runs pods in a Kubernetes cluster.
const k3s = "k3s"

// Rollout is what a cluster is told by scheduler-k3s, after the plugin's turn: to have these pods, and no others, of an app.
type Rollout struct {
	App string
	// Image is the name of the image of new pods, and Built the one that it has on this host.
	Image, Built string
	// Formation is how many pods each process type is to have.
	Formation map[string]int
	// Kustomization is the text of the kustomization that goes for them, "" for none.
	Kustomization string
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

// kustomization is where scheduler-k3s keeps the app's, and that of this deploy.
func (s *session) kustomization(app string) (current, next string) {
	current = filepath.Join(s.Lib, "data", "scheduler-k3s", app, "kustomization")
	return current, fmt.Sprintf("%s.%d", current, s.process.Process.Pid)
}

// extractKustomization is what scheduler-k3s does in core-post-extract, with a repository that has none. It does so for all apps.
func (s *session) extractKustomization(app string) error {
	current, next := s.kustomization(app)
	if err := os.MkdirAll(filepath.Dir(current), 0o755); err != nil {
		return err
	}
	left, err := filepath.Glob(current + ".*")
	for _, path := range left {
		// It removes no folder that is not empty, and fails.
		err = errors.Join(err, os.Remove(path))
	}
	return errors.Join(err, os.WriteFile(next+".missing", nil, 0o644))
}

// keepKustomization is what it does in core-post-deploy.
func (s *session) keepKustomization(app string) error {
	current, next := s.kustomization(app)
	if _, err := os.Stat(next); err != nil {
		return nil
	}
	return errors.Join(os.RemoveAll(current), os.Rename(next, current))
}

// rollOut has the cluster replace an app's pods by new ones, and waits for it (helm upgrade --wait).
func (s *session) rollOut(app, tag string) error {
	formation, err := s.formation(app)
	if err != nil {
		return err
	}
	current, next := s.kustomization(app)
	text, err := os.ReadFile(filepath.Join(next, "kustomization.yaml"))
	if errors.Is(err, os.ErrNotExist) {
		text, err = os.ReadFile(filepath.Join(current, "kustomization.yaml"))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	counts := make(map[string]int)
	for _, p := range formation {
		counts[p.process] = p.count
	}
	return s.options.Rollout(Rollout{
		App: app, Image: "registry.example.com:5000/dokku/" + app + ":" + tag, Built: s.image(app), Formation: counts, Kustomization: string(text),
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
