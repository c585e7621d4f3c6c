package dokku

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Scheduler is the name of one of Dokku's: "docker-local", "k3s", "null", ...
type Scheduler string

const (
	// DockerLocal is the scheduler that runs containers on this host.
	DockerLocal Scheduler = "docker-local"
	// K3s is the scheduler that runs pods in a Kubernetes cluster.
	K3s Scheduler = "k3s"
	// WithPorts names those whose apps can have public ports.
	WithPorts = DockerLocal + " or " + K3s
)

// HasPorts tells whether its apps can have public ports.
func (s Scheduler) HasPorts() bool { return s == DockerLocal || s == K3s }

// Scheduler returns the app's scheduler.
func (e Env) Scheduler(app string) (Scheduler, error) {
	value, err := e.computed("scheduler", app, "selected")
	if value == "" && err == nil {
		return DockerLocal, nil
	}
	return Scheduler(value), err
}

// ChecksDisabled tells whether Dokku stops the containers of the process type before it starts the new ones. It decides as
// Dokku does at that moment (plugins/checks/functions, is_app_proctype_checks_disabled): from a list of process types, or
// "_all_". Checks that are merely skipped are not disabled.
func (e Env) ChecksDisabled(app, process string) (bool, error) {
	list, err := e.formerVar("checks", app, "disabled", "DOKKU_CHECKS_DISABLED")
	if err != nil {
		return false, err
	}
	return list == "_all_" || slices.Contains(strings.Split(list, ","), process), nil
}

// WaitToRetire returns how long Dokku leaves old containers running after a deploy.
func (e Env) WaitToRetire(app string) (time.Duration, error) {
	value, err := e.computed("checks", app, "wait-to-retire")
	if err != nil {
		return 0, err
	}
	if value == "" {
		value = "60"
	}
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("wait-to-retire of %s is %q: expected a number of seconds; set it with "+
			"dokku checks:set %s wait-to-retire 60", app, value, app)
	}
	return time.Duration(seconds) * time.Second, nil
}

// Stopped tells whether the app carries the mark that `ps:stop` leaves: Dokku does not start it again after a reboot.
//
// Dokku's plugin ps writes the mark in post-stop, after this plugin's own hook, since plugins run in the order of their
// names; core-post-deploy takes it away, so that it is still there while `ps:start` starts the containers. And
// `ps:set APP restore false` sets it for an app that runs. So it says what an operator wants only of an app that has no
// running container and no deploy on its way.
func (e Env) Stopped(app string) (bool, error) {
	value, err := e.formerVar("ps", app, "restore", "DOKKU_APP_RESTORE")
	return value == "false" || value == "0", err
}

// ScaleRefused tells whether Dokku refuses `ps:scale` for the app, because its app.json says how many containers of each
// process type it has (plugins/app-json, setScale).
func (e Env) ScaleRefused(app string) (bool, error) {
	value, err := e.property("ps", app, "can-scale")
	return value == "false", err
}

// FromImage returns the image of a deploy by `git:from-image` (or git:load-image), whose source tree at sourceDir is no
// more than a Dockerfile that Dokku wrote; "" when the tree is the app's own source.
//
// Dokku keeps the image in the property source-image from before that deploy until after the next one from source: its
// deploy-source-set runs at the end of a `git push`. Hence the property alone would take the first push after a
// git:from-image for one too; only with the FROM line that Dokku appended to the Dockerfile is it that. A rebuild of an
// app that came from an image has both.
func (e Env) FromImage(app, sourceDir string) (string, error) {
	image, err := e.property("git", app, "source-image")
	if image == "" || err != nil {
		return "", err
	}
	text, err := readDockerfile(sourceDir)
	if err != nil {
		return "", fmt.Errorf("can't read the source of %s: %w", app, err)
	}
	if !slices.Contains(strings.Split(string(text), "\n"), "FROM "+image) {
		return "", nil
	}
	return image, nil
}

// readDockerfile returns nothing where there is no regular file. The tree is a stranger's: no link in it is followed out
// of it, and no pipe in it is waited for.
func readDockerfile(sourceDir string) ([]byte, error) {
	root, err := os.OpenRoot(sourceDir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	const name = "Dockerfile"
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readRegular(file)
}
