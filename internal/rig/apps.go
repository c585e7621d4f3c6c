package rig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
)

// CreateApp is apps:create.
func (h *Host) CreateApp(app string, opts ...Option) error {
	return h.do(opts, func(s *session) error { return s.createApp(app) })
}

func (s *session) createApp(app string) error {
	s.say("-----> Creating %s...", app)
	if err := os.Mkdir(filepath.Join(s.Root, app), 0o755); err != nil {
		return err
	}
	return s.trigger("post-create", app)
}

func (s *session) ensureApp(app string) error {
	if _, err := os.Stat(filepath.Join(s.Root, app)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.createApp(app)
}

// Scale is ps:scale APP PROCESS=COUNT: a deploy of that process type alone.
func (h *Host) Scale(app, process string, count int, opts ...Option) error {
	return h.do(opts, func(s *session) error {
		s.say("-----> Scaling %s processes: %s=%d", app, process, count)
		if err := s.setScale(app, process, count); err != nil {
			return err
		}
		return s.restart(app, process)
	})
}

// Restart is ps:restart: new containers of the image that the last push built, well or not.
func (h *Host) Restart(app string, opts ...Option) error {
	return h.do(opts, func(s *session) error { return s.restart(app, "") })
}

func (s *session) restart(app, process string) error {
	if deployed, err := s.deployed(app); !deployed {
		return err
	}
	return s.deploy(app, process)
}

// deployed tells whether the app was ever deployed well, or has containers; it stays so when it is scaled to 0
// (plugins/common: IsDeployed).
func (h *Host) deployed(app string) (bool, error) {
	if known, err := h.property("common", app, "deployed"); known != "" || err != nil {
		return known == "true", err
	}
	current, err := h.Containers(app)
	if err != nil {
		return false, err
	}
	return len(current) > 0, h.SetProperty("common", app, "deployed", strconv.FormatBool(len(current) > 0))
}

// ConfigSet is config:set APP KEY=VALUE: a release and a deploy. The variable itself is not kept.
func (h *Host) ConfigSet(app, key string, opts ...Option) error {
	return h.do(opts, func(s *session) error {
		if err := s.trigger("post-config-update", app, "set", key); err != nil {
			return err
		}
		if deployed, err := s.deployed(app); !deployed {
			return err
		}
		return s.releaseAndDeploy(app)
	})
}

// Stop is ps:stop.
func (h *Host) Stop(app string, opts ...Option) error {
	return h.do(opts, func(s *session) error {
		s.say("-----> Stopping %s", app)
		if err := s.schedulerStop(app); err != nil {
			return err
		}
		if err := s.trigger("post-stop", app); err != nil {
			return err
		}
		return s.SetProperty("ps", app, "restore", "false")
	})
}

// schedulerStop calls scheduler-stop, where scheduler-docker-local stops the app's containers after this plugin's turn.
func (s *session) schedulerStop(app string, args ...string) error {
	scheduler, err := s.scheduler(app)
	if err != nil {
		return err
	}
	if err := s.trigger("scheduler-stop", append([]string{scheduler, app}, args...)...); err != nil {
		return err
	}
	if scheduler == k3s {
		return s.options.Rollout(Rollout{App: app})
	}
	ids, err := s.all(app)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := s.stopContainer(app, id); err != nil {
			return err
		}
	}
	return nil
}

// all are the containers of an app, old ones too.
func (s *session) all(app string) ([]string, error) {
	mine := s.mine()
	mine.Add("label", "com.dokku.app-name="+app)
	list, err := s.Docker.ContainerList(s.ctx, container.ListOptions{All: true, Filters: mine})
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	return ids, err
}

// Start is ps:start.
func (h *Host) Start(app string, opts ...Option) error {
	return h.do(opts, func(s *session) error {
		if deployed, err := s.deployed(app); !deployed {
			return err
		}
		if err := s.trigger("pre-start", app); err != nil {
			return err
		}
		running, err := s.running(app)
		if err != nil {
			return err
		}
		if !running {
			if err := s.releaseAndDeploy(app); err != nil {
				return err
			}
		}
		return s.trigger("proxy-build-config", app)
	})
}

// running tells whether all current containers run, or pods are wanted.
func (s *session) running(app string) (bool, error) {
	if scheduler, err := s.scheduler(app); scheduler == k3s || err != nil {
		restore, propertyErr := s.property("ps", app, "restore")
		return restore != "false", errors.Join(err, propertyErr)
	}
	ids, err := s.currentOf(app, "")
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		info, err := s.Docker.ContainerInspect(s.ctx, id)
		if err := ignoreGone(err); err != nil {
			return false, err
		}
		if info.ContainerJSONBase == nil || !info.State.Running {
			return false, nil
		}
	}
	return true, nil
}

// Destroy is apps:destroy.
func (h *Host) Destroy(app string, opts ...Option) error {
	return h.do(opts, func(s *session) error {
		if err := s.destroy(app); err != nil {
			return err
		}
		return os.RemoveAll(s.repository(app))
	})
}

func (s *session) destroy(app string) error {
	s.say("-----> Destroying %s (including all add-ons)", app)
	if err := s.trigger("pre-delete", app, s.tag()); err != nil {
		return err
	}
	if err := s.schedulerStop(app, "true"); err != nil {
		return err
	}
	scheduler, err := s.scheduler(app)
	if err != nil {
		return err
	}
	if err := s.trigger("scheduler-post-delete", scheduler, app, s.tag()); err != nil {
		return err
	}
	if err := s.trigger("post-delete", app, s.tag()); err != nil {
		return err
	}
	if err := s.moveProperties(app, "", false); err != nil {
		return err
	}
	ids, err := s.all(app)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := ignoreGone(s.Docker.ContainerRemove(s.ctx, id, container.RemoveOptions{Force: true})); err != nil {
			return err
		}
	}
	if err := s.trigger("scheduler-retire", scheduler, app); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(s.Lib, "data", "ps", app)), os.RemoveAll(filepath.Join(s.Root, app)))
}

// Rename is apps:rename. The new app has the files CONTAINER.* of the old one, whose containers are gone, until it is
// deployed.
func (h *Host) Rename(from, to string, opts ...Option) error {
	return h.do(opts, func(s *session) error {
		s.say("-----> Renaming %s to %s", from, to)
		if err := s.createApp(to); err != nil {
			return err
		}
		if err := s.trigger("post-app-rename-setup", from, to); err != nil {
			return err
		}
		if err := s.inherit(from, to, false); err != nil {
			return err
		}
		// nginx-vhosts, in the trigger before.
		if err := s.trigger("proxy-clear-config", to); err != nil {
			return err
		}
		if err := s.destroy(from); err != nil {
			return err
		}
		if err := os.Rename(s.repository(from), s.repository(to)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// The plugin `ps` rebuilds in this trigger, after this plugin's turn.
		if err := s.trigger("post-app-rename", from, to); err != nil {
			return err
		}
		return s.rebuildUnlessSkipped(to)
	})
}

// Clone is apps:clone.
func (h *Host) Clone(from, to string, opts ...Option) error {
	return h.do(opts, func(s *session) error {
		s.say("-----> Cloning %s to %s", from, to)
		if err := s.createApp(to); err != nil {
			return err
		}
		if err := s.trigger("post-app-clone-setup", from, to); err != nil {
			return err
		}
		if err := s.inherit(from, to, true); err != nil {
			return err
		}
		// scheduler-docker-local: a clone begins without containers.
		current, err := s.Containers(to)
		if err != nil {
			return err
		}
		for dyno := range current {
			if err := os.Remove(s.containerFile(to, dyno)); err != nil {
				return err
			}
		}
		if err := os.CopyFS(s.repository(to), os.DirFS(s.repository(from))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := s.trigger("post-app-clone", from, to); err != nil {
			return err
		}
		return s.rebuildUnlessSkipped(to)
	})
}

// inherit is what core plugins do in post-app-rename-setup and post-app-clone-setup, after this plugin's turn.
func (s *session) inherit(from, to string, keep bool) error {
	if err := s.moveProperties(from, to, keep); err != nil {
		return err
	}
	files, err := os.ReadDir(filepath.Join(s.Root, from))
	if err != nil {
		return err
	}
	for _, file := range files {
		if !strings.HasPrefix(file.Name(), "CONTAINER.") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(s.Root, from, file.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.Root, to, file.Name()), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// rebuildUnlessSkipped rebuilds an app that has code, unless the command came with --skip-deploy.
func (s *session) rebuildUnlessSkipped(app string) error {
	if _, err := os.Stat(s.repository(app)); s.opts.skipDeploy || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.rebuild(app)
}

// ProxyDisable and ProxyEnable are proxy:disable and proxy:enable, about Dokku's HTTP proxy. nginx-vhosts restarts the app
// in the trigger, after this plugin's turn.
func (h *Host) ProxyDisable(app string, opts ...Option) error { return h.setProxy(app, false, opts) }

// ProxyEnable is the other half of ProxyDisable.
func (h *Host) ProxyEnable(app string, opts ...Option) error { return h.setProxy(app, true, opts) }

func (h *Host) setProxy(app string, enabled bool, opts []Option) error {
	name, value := "proxy-enable", ""
	if !enabled {
		name, value = "proxy-disable", "true"
	}
	return h.do(opts, func(s *session) error {
		if err := s.SetProperty("proxy", app, "disabled", value); err != nil {
			return err
		}
		if err := s.trigger(name, app); err != nil {
			return err
		}
		if err := s.trigger("app-restart", app); err != nil {
			return err
		}
		return s.restart(app, "")
	})
}

// ChecksDisable is checks:disable, for all process types. It calls no trigger.
func (h *Host) ChecksDisable(app string) error {
	return h.SetProperty("checks", app, "disabled", "_all_")
}

// SetWaitToRetire is checks:set APP wait-to-retire; the app "--global" stands for all.
func (h *Host) SetWaitToRetire(app string, seconds int) error {
	return h.SetProperty("checks", app, "wait-to-retire", fmt.Sprint(seconds))
}
