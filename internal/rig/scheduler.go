package rig

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// dockerLocal is the scheduler that runs containers on the host.
const dockerLocal = "docker-local"

// deploy is Dokku's trigger "deploy": it replaces the app's containers, or only those of one process type, by new ones of
// the app's image (plugins/scheduler-docker-local/scheduler-deploy).
func (s *session) deploy(app, process string) error {
	scheduler, err := s.scheduler(app)
	if err != nil {
		return err
	}
	s.say("-----> Deploying %s via the %s scheduler...", app, scheduler)
	tag := s.tag()
	if scheduler == k3s {
		if tag, err = s.imageTag(app); err != nil {
			return err
		}
	}
	if err := s.trigger("scheduler-deploy", scheduler, app, tag, process); err != nil {
		return err
	}
	switch scheduler {
	case dockerLocal:
	case k3s:
		if err := s.rollOut(app, tag); err != nil {
			return err
		}
		return s.postDeploy(app, tag)
	case "null":
		return nil
	default: // somebody's own
		return s.postDeploy(app, tag)
	}
	old, err := s.currentOf(app, process)
	if err != nil {
		return err
	}
	formation, err := s.formation(app)
	if err != nil {
		return err
	}
	// `web` first, then the others at the same time.
	var others errgroup.Group
	for _, p := range formation {
		if process != "" && p.process != process {
			continue
		}
		_, known, err := s.startCommand(app, p.process)
		if err != nil {
			return err
		}
		if !known {
			s.say(" !     Skipping %s as it is missing from the current Procfile", p.process)
			continue
		}
		if p.process == "web" {
			if err := s.deployProcess(app, p.process, p.count); err != nil {
				return err
			}
			continue
		}
		others.Go(func() error { return s.deployProcess(app, p.process, p.count) })
	}
	if err := others.Wait(); err != nil {
		return err
	}
	if err := s.postDeploy(app, tag); err != nil {
		return err
	}
	return s.shutDown(app, old)
}

// postDeploy is the end of a deploy. When it fails the old containers get no SIGTERM.
func (s *session) postDeploy(app, tag string) error {
	s.say("-----> Running post-deploy")
	if err := s.trigger("core-post-deploy", app, "", "", tag); err != nil {
		return err
	}
	if err := errors.Join(s.corePostDeploy(app), s.keepKustomization(app)); err != nil {
		return err
	}
	return s.trigger("post-deploy", app, "", "", tag)
}

// corePostDeploy is what core plugins do then: containers get their names, files of process types that are gone go.
func (s *session) corePostDeploy(app string) error {
	if err := errors.Join(s.SetProperty("common", app, "deployed", "true"), s.SetProperty("ps", app, "restore", "")); err != nil {
		return err
	}
	if err := s.promoteProcfile(app); err != nil {
		return err
	}
	formation, err := s.formation(app)
	if err != nil {
		return err
	}
	current, err := s.Containers(app)
	if err != nil {
		return err
	}
	s.say("-----> Renaming containers")
	for _, dyno := range dynos(current) {
		process, _ := splitDyno(dyno)
		if !slices.ContainsFunc(formation, func(p processCount) bool { return p.process == process }) {
			if err := os.Remove(s.containerFile(app, dyno)); err != nil {
				return err
			}
			continue
		}
		if err := s.giveName(current[dyno], s.containerName(app, dyno)); err != nil {
			return err
		}
	}
	return nil
}

// deployProcess replaces the containers of one process type, one after the other (bin/scheduler-deploy-process).
func (s *session) deployProcess(app, process string, count int) error {
	s.say("-----> Deploying %s (count=%d)", process, count)
	checks, err := s.checks(app, process)
	if err != nil {
		return err
	}
	wait, err := s.waitToRetire(app)
	if err != nil {
		return err
	}
	if checks == checksDisabled {
		s.say("       Zero downtime is disabled, stopping currently running containers  (%s)", process)
		old, err := s.currentOf(app, process)
		if err != nil {
			return err
		}
		for _, id := range old {
			if err := s.registerRetired(app, id, wait); err != nil {
				return err
			}
			if err := s.stopContainer(app, id); err != nil {
				return err
			}
		}
	}
	// Called once for the process type, only to look for ports that are published.
	if _, err := s.dockerArgs(app, process, ""); err != nil {
		return err
	}
	for index := 1; index <= count; index++ {
		if err := s.deployContainer(app, process, index, checks, wait); err != nil {
			return err
		}
	}
	if err := s.trigger("scheduler-post-deploy-process", app, process); err != nil {
		return err
	}
	// What nginx-vhosts does in the same trigger, after this plugin.
	for _, t := range [][]string{{"proxy-build-config", app}, {"ports-configure", app}, {"nginx-pre-reload", app, "", ""}} {
		if err := s.trigger(t[0], t[1:]...); err != nil {
			return err
		}
	}
	return s.dropSurplus(app, process, count, wait)
}

// dockerArgs are the plugin's arguments for docker, for one container or, with no index, for none yet.
func (s *session) dockerArgs(app, process, index string) (string, error) {
	deprecated, err := s.triggerOutput("docker-args-deploy", withIndex(index, app, s.tag(), process)...)
	if err != nil {
		return "", err
	}
	args, err := s.triggerOutput("docker-args-process-deploy", withIndex(index, app, "dockerfile", s.tag(), process)...)
	return deprecated + args, err
}

func withIndex(index string, args ...string) []string {
	if index == "" {
		return args
	}
	return append(args, index)
}

// deployContainer starts one container and makes it current once it has passed its checks
// (bin/scheduler-deploy-process-container).
func (s *session) deployContainer(app, process string, index int, checks checks, wait time.Duration) error {
	dyno := process + "." + strconv.Itoa(index)
	args, err := s.dockerArgs(app, process, strconv.Itoa(index))
	if err != nil {
		return err
	}
	id, err := s.createContainer(app, dyno, args)
	if err != nil {
		return err
	}
	if err := s.trigger("post-container-create", "app", id, app, "deploy", process); err != nil {
		return err
	}
	ip, err := s.startContainer(id)
	if err != nil {
		return err
	}
	if checks != checksDisabled {
		s.say("       Attempting pre-flight checks (%s)", dyno)
		err := s.trigger("check-deploy", app, id, process, "5000", ip, strconv.Itoa(index))
		if err == nil && checks != checksSkipped {
			err = s.coreCheck(id, dyno)
		}
		if errors.Is(err, ErrDied) {
			return err
		}
		if err != nil {
			return errors.Join(err, s.killNew(app, dyno, id, wait))
		}
	}
	old, err := os.ReadFile(s.containerFile(app, dyno))
	if err == nil {
		s.say("       Scheduling old container shutdown in %.0f seconds (%s)", wait.Seconds(), dyno)
		err = s.registerRetired(app, strings.TrimSpace(string(old)), wait)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(s.containerFile(app, dyno), []byte(id+"\n"), 0o644)
}

// killNew is the end of a container that did not pass. The script's exit handler, which does it, has lost the app's name.
func (s *session) killNew(app, dyno, id string, wait time.Duration) error {
	s.say(" !     Container %.12s (%s) did not pass its checks", id, dyno)
	if err := s.registerRetired("", id, wait); err != nil {
		return err
	}
	return s.stopContainer(app, id)
}

// dropSurplus forgets the containers above count; they are stopped with all the old ones, or by ps:retire.
func (s *session) dropSurplus(app, process string, count int, wait time.Duration) error {
	current, err := s.Containers(app)
	if err != nil {
		return err
	}
	for _, dyno := range dynos(current) {
		if p, index := splitDyno(dyno); p != process || index <= count {
			continue
		}
		s.say("       Scheduling orphaned container shutdown in %.0f seconds (%s)", wait.Seconds(), dyno)
		if err := s.registerRetired(app, current[dyno], wait); err != nil {
			return err
		}
		if err := os.Remove(s.containerFile(app, dyno)); err != nil {
			return err
		}
	}
	return nil
}

// registerRetired notes for ps:retire that a container is to be stopped.
func (s *session) registerRetired(app, id string, wait time.Duration) error {
	if err := s.trigger("scheduler-register-retired", app, id, strconv.Itoa(int(wait.Seconds()))); err != nil {
		return err
	}
	return s.addDead(app, id, time.Now().Add(wait))
}

// shutDown sends SIGTERM to the old containers at once, and stops them in the background when wait-to-retire is over.
func (s *session) shutDown(app string, old []string) error {
	if len(old) == 0 {
		return nil
	}
	wait, err := s.waitToRetire(app)
	if err != nil {
		return err
	}
	for _, id := range old {
		s.options.Stopping(app, id)
		if err := s.signal(id, "SIGTERM"); err != nil {
			return err
		}
	}
	s.say("-----> Shutting down old containers in %.0f seconds", wait.Seconds())
	h := s.Host
	h.later.Go(func() {
		select {
		case <-time.After(wait):
		case <-h.ctx.Done():
			return
		}
		for _, id := range old {
			if err := h.stopContainer(app, id); err != nil && !errors.Is(err, context.Canceled) {
				h.say(" !     Stopping container %.12s of %s: %v", id, app, err)
			}
		}
	})
	return nil
}

// Containers are the app's current containers as the files CONTAINER.* name them, by dyno ("web.1").
func (h *Host) Containers(app string) (map[string]string, error) {
	files, err := os.ReadDir(filepath.Join(h.Root, app))
	if err != nil {
		return nil, err
	}
	current := make(map[string]string)
	for _, file := range files {
		dyno, ok := strings.CutPrefix(file.Name(), "CONTAINER.")
		if !ok {
			continue
		}
		id, err := os.ReadFile(h.containerFile(app, dyno))
		if err != nil {
			return nil, err
		}
		current[dyno] = strings.TrimSpace(string(id))
	}
	return current, nil
}

// currentOf are the ids of an app's current containers, of one process type or, with "", of all.
func (h *Host) currentOf(app, process string) ([]string, error) {
	current, err := h.Containers(app)
	var ids []string
	for _, dyno := range dynos(current) {
		if p, _ := splitDyno(dyno); process == "" || p == process {
			ids = append(ids, current[dyno])
		}
	}
	return ids, err
}

// dynos are the names in order: by process type, then by index.
func dynos(current map[string]string) []string {
	return slices.SortedFunc(maps.Keys(current), func(a, b string) int {
		p, i := splitDyno(a)
		q, j := splitDyno(b)
		return cmp.Or(cmp.Compare(p, q), cmp.Compare(i, j))
	})
}

// splitDyno cuts "web.2" into the process type and the index.
func splitDyno(dyno string) (process string, index int) {
	process, text, _ := strings.Cut(dyno, ".")
	index, _ = strconv.Atoi(text) // Dokku writes nothing but numbers there
	return process, index
}

func (h *Host) containerFile(app, dyno string) string {
	return filepath.Join(h.Root, app, "CONTAINER."+dyno)
}
