package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
)

// Label marks containers and images: its value is the id of the host that they belong to.
const Label = "dokku-expose.rig"

const (
	// stopTimeout is Dokku's stop-timeout-seconds.
	stopTimeout = 30 * time.Second
	// cleanupTimeout bounds the end of a host.
	cleanupTimeout = 2 * time.Minute
)

// createContainer makes the container of a dyno. It is the docker program that gets the arguments, cut into words as
// Dokku does it, so that what the plugin printed is read by whom it is meant for.
func (s *session) createContainer(app, dyno, pluginArgs string) (string, error) {
	process, _ := splitDyno(dyno)
	command, _, err := s.startCommand(app, process)
	if err != nil {
		return "", err
	}
	var args strings.Builder
	add := func(format string, values ...any) { fmt.Fprintf(&args, " "+format, values...) }
	add("--label=com.dokku.process-type=%s --label=com.dokku.dyno=%s --env=DYNO=%s", process, dyno, dyno)
	add("--name=%s.upcoming-%d", s.containerName(app, dyno), time.Now().UnixNano())
	add("--label=com.dokku.app-name=%s --label=com.dokku.container-type=deploy --label=dokku", app)
	add("--label=%s=%s --restart=on-failure:10", Label, s.id)
	for _, plugin := range []struct{ name, key, flag string }{
		{"network", "initial-network", "--network="},
		{"docker-options", "_default_.deploy", ""},
	} {
		value, err := s.property(plugin.name, app, plugin.key)
		if err != nil {
			return "", err
		}
		if value != "" {
			add("%s%s", plugin.flag, value)
		}
	}
	for _, variable := range s.opts.dynoEnv[dyno] {
		add("--env=%s", variable)
	}
	add("%s %s %s", pluginArgs, s.image(app), command)

	// xargs splits as in Dokku's fn-docker-args-split.
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(s.ctx, "xargs", "-r", "docker", "container", "create")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(args.String()), &stdout, &stderr
	if s.options.DockerHost != "" {
		cmd.Env = append(cmd.Environ(), "DOCKER_HOST="+s.options.DockerHost)
	}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("rig: docker container create%s: %w: %s", args.String(), err, &stderr)
	}
	return strings.TrimSpace(stdout.String()), nil
}

// startContainer starts it and returns its address, "" when it does not run: that is for the checks to find.
func (s *session) startContainer(id string) (ip string, err error) {
	if err := s.Docker.ContainerStart(s.ctx, id, container.StartOptions{}); err != nil {
		s.say(" !     %v", err)
	}
	info, err := s.Docker.ContainerInspect(s.ctx, id)
	if err != nil {
		return "", err
	}
	for _, network := range info.NetworkSettings.Networks {
		ip = network.IPAddress
	}
	return ip, nil
}

// coreCheck stands for Dokku's own check.
func (s *session) coreCheck(id, dyno string) error {
	if s.opts.failCheck(dyno) {
		return fmt.Errorf("rig: the check of %s fails, as the command's option wants it", dyno)
	}
	info, err := s.Docker.ContainerInspect(s.ctx, id)
	if err != nil {
		return err
	}
	if !info.State.Running || info.State.Restarting {
		return fmt.Errorf("rig: container %.12s (%s) is %s with exit status %d", id, dyno, info.State.Status, info.State.ExitCode)
	}
	return nil
}

// stopContainer is `docker container stop` for good; a container that is gone is fine.
func (h *Host) stopContainer(app, id string) error {
	h.options.Stopping(app, id)
	_, err := h.Docker.ContainerUpdate(h.ctx, id, container.UpdateConfig{RestartPolicy: container.RestartPolicy{Name: "no"}})
	if err != nil {
		// One that somebody else is ending, as a cluster ends pods, can't be changed any more.
		if now, inspectErr := h.Docker.ContainerInspect(h.ctx, id); cerrdefs.IsNotFound(inspectErr) || inspectErr == nil && !now.State.Running {
			return nil
		}
	}
	if err == nil {
		seconds := int(stopTimeout.Seconds())
		err = h.Docker.ContainerStop(h.ctx, id, container.StopOptions{Timeout: &seconds})
	}
	return ignoreGone(err)
}

func (h *Host) signal(id, signal string) error {
	return ignoreGone(h.Docker.ContainerKill(h.ctx, id, signal))
}

// ignoreGone is nil for a container that does not exist or does not run.
func ignoreGone(err error) error {
	if cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) {
		return nil
	}
	return err
}

// giveName renames a container, and the one that has the name before it.
func (h *Host) giveName(id, name string) error {
	holder, err := h.Docker.ContainerInspect(h.ctx, name)
	switch {
	case err == nil && holder.ID == id:
		return nil
	case err == nil:
		if err := h.Docker.ContainerRename(h.ctx, holder.ID, fmt.Sprintf("%s.%d", name, time.Now().UnixNano())); err != nil {
			return err
		}
	case !cerrdefs.IsNotFound(err):
		return err
	}
	return ignoreGone(h.Docker.ContainerRename(h.ctx, id, name))
}

func (h *Host) containerName(app, dyno string) string { return app + "." + dyno + "." + h.id }

// tag is the image tag of all apps.
func (h *Host) tag() string { return "rig-" + h.id }

func (h *Host) image(app string) string { return "dokku/" + app + ":" + h.tag() }

// deadContainers is Dokku's list of containers that ps:retire is to stop, "APP ID TIME" in each line.
func (h *Host) deadContainers() string {
	return filepath.Join(h.Lib, "data", "scheduler-docker-local", "dead-containers")
}

func (h *Host) addDead(app, id string, due time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(h.deadContainers()), 0o755); err != nil {
		return err
	}
	text, err := os.ReadFile(h.deadContainers())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if strings.Contains(string(text), id) {
		return nil
	}
	text = fmt.Appendf(text, "%s %s %d\n", app, id, due.Unix())
	return os.WriteFile(h.deadContainers(), text, 0o644)
}

// Retire is ps:retire, which Dokku runs every five minutes: it stops and removes the registered containers, with early
// those too whose wait-to-retire is not over. It calls no trigger.
func (h *Host) Retire(early bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	text, err := os.ReadFile(h.deadContainers())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), " ") // the app can be ""
		app, id := fields[0], fields[1]
		due, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return fmt.Errorf("rig: %s: %w", h.deadContainers(), err)
		}
		if !early && time.Now().Unix() <= due {
			kept = append(kept, line)
			continue
		}
		if err := h.stopContainer(app, id); err != nil {
			return err
		}
		if err := ignoreGone(h.Docker.ContainerRemove(h.ctx, id, container.RemoveOptions{Force: true})); err != nil {
			return err
		}
	}
	return os.WriteFile(h.deadContainers(), []byte(strings.Join(kept, "")), 0o644)
}

func (h *Host) mine() filters.Args { return filters.NewArgs(filters.Arg("label", Label+"="+h.id)) }

func (h *Host) removeContainers(ctx context.Context) error {
	list, err := h.Docker.ContainerList(ctx, container.ListOptions{All: true, Filters: h.mine()})
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range list {
		errs = append(errs, ignoreGone(h.Docker.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})))
	}
	return errors.Join(errs...)
}

// removeImages removes the host's images, and with each those that it was built from.
func (h *Host) removeImages(ctx context.Context) error {
	for {
		list, err := h.Docker.ImageList(ctx, image.ListOptions{Filters: h.mine()})
		if err != nil || len(list) == 0 {
			return err
		}
		var errs []error
		for _, i := range list {
			_, err := h.Docker.ImageRemove(ctx, i.ID, image.RemoveOptions{Force: true, PruneChildren: true})
			if err != nil && !cerrdefs.IsNotFound(err) {
				errs = append(errs, err)
			}
		}
		// One that another was built from can be removed only after that: in the next round.
		if len(errs) == len(list) {
			return errors.Join(errs...)
		}
	}
}
