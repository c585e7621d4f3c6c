// Package kustomize has Dokku's scheduler-k3s give pods what public ports need: a readiness probe, so that a cluster takes a pod for
// ready when it accepts connections and not before, and time to end.
//
// scheduler-k3s applies the kustomization of a folder to all that it deploys. That of the app's repository stays as it is, in the folder
// "app" within. The package knows that folder, and no more of Dokku, of the plugin's settings or of Kubernetes.
package kustomize

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	// file is a kustomization's usual name, mark the first line of one of ours.
	file = "kustomization.yaml"
	mark = "# Written by the plugin expose; the app's own kustomization is in the folder app.\n"
	// own is the folder of the app's kustomization within ours, rendered what scheduler-k3s writes into ours and both begin with.
	own, rendered = "app", "rendered.yaml"

	// The fields that a pod is given.
	readiness, hook, grace = "readinessProbe", "preStop", "terminationGracePeriodSeconds"

	// leave is for how many seconds a pod goes on accepting connections once it is being deleted, at the least: until all nodes know. usual
	// is Kubernetes' own time for the app to end after that, in seconds.
	leave, usual = 5, 30
)

// Process is what the pods of a process type are to have.
type Process struct {
	// Name is the process type: "web".
	Name string
	// Probe is the private port that the readiness probe connects to, 0 for no probe.
	Probe uint16
	// Drain is for how long the connections of a pod may go on before it is told to end. A cluster waits that long in any case.
	Drain time.Duration
}

// Folder is where scheduler-k3s keeps an app's kustomization: $DOKKU_LIB_ROOT/data/scheduler-k3s/APP.
type Folder struct {
	Path, App string
	// PID is DOKKU_PID, which a deploy's own kustomization is named after.
	PID string
}

// current is the one of the last deploy, next that of the deploy on its way.
func (f Folder) current() string { return filepath.Join(f.Path, "kustomization") }
func (f Folder) next() string    { return f.current() + "." + f.PID }

// Sweep removes what deploys have left that did not end. Dokku (0.38.27) removes no folders there, and fails each later push instead.
func (f Folder) Sweep() error {
	left, err := filepath.Glob(f.current() + ".*")
	for _, path := range left {
		if info, statErr := os.Lstat(path); statErr == nil && info.IsDir() {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}

// Write has the pods of a deploy be as processes say. Fields that the app's own kustomization names are left to it. Without any process it
// takes back what was written for the last deploy.
func (f Folder) Write(processes []Process) error {
	if len(processes) == 0 {
		if _, err := os.Stat(f.next()); err == nil || !isOurs(f.current()) {
			return nil
		}
	}
	// Its name must not be one that Dokku looks for.
	made := filepath.Join(f.Path, ".expose")
	if err := errors.Join(os.RemoveAll(made), os.MkdirAll(made, 0o755)); err != nil {
		return err
	}
	base, err := f.copyOwn(filepath.Join(made, own))
	if err != nil {
		return err
	}
	text, err := f.kustomization(base, processes)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(made, file), text, 0o644); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(f.next()), os.Rename(made, f.next()))
}

// copyOwn copies the app's own kustomization of this deploy to a folder, and returns that; it is "" where there is none. A deploy that
// brings no source has that of the last one.
func (f Folder) copyOwn(to string) (string, error) {
	from := f.next()
	if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(from + ".missing"); err == nil {
			return "", nil
		}
		from = f.current()
	}
	if isOurs(from) {
		from = filepath.Join(from, own)
	}
	// The repository's may be a link to a folder of somebody else's.
	switch info, err := os.Lstat(from); {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", fmt.Errorf("the app's kustomization %s is no folder: have it be one in the repository, and no link", from)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return "", err
	}
	link := filepath.Join(to, rendered)
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return to, os.Symlink(filepath.Join("..", rendered), link)
}

// isOurs tells whether a folder has a kustomization of ours. One of the repository's may be a link, to a device without an end.
func isOurs(path string) bool {
	f, err := os.OpenFile(filepath.Join(path, file), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	text := make([]byte, len(mark))
	_, err = io.ReadFull(f, text)
	return err == nil && string(text) == mark
}

// kustomization is the text of ours, over that in base.
func (f Folder) kustomization(base string, processes []Process) ([]byte, error) {
	type object = map[string]any
	above := rendered
	names := func(string) bool { return false }
	if base != "" {
		above = own
		named, err := fieldsIn(base)
		if err != nil {
			return nil, err
		}
		names = func(field string) bool { return named[field] }
	}
	var patches []object
	for _, p := range processes {
		container := object{"name": f.App + "-" + p.Name}
		pod := object{"containers": []object{container}}
		if p.Probe != 0 && !names(readiness) {
			container[readiness] = object{"tcpSocket": object{"port": p.Probe}, "periodSeconds": 2, "timeoutSeconds": 2}
		}
		if !names(hook) {
			seconds := leave
			if !names(grace) {
				seconds = max(leave, int(math.Ceil(p.Drain.Seconds())))
				pod[grace] = seconds + usual
			}
			container["lifecycle"] = object{hook: object{"sleep": object{"seconds": seconds}}}
		}
		patch, err := yaml.Marshal(object{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": f.App + "-" + p.Name},
			"spec": object{"template": object{"spec": pod}},
		})
		if err != nil {
			return nil, err
		}
		patches = append(patches, object{"target": object{"kind": "Deployment", "name": regexp.QuoteMeta(f.App + "-" + p.Name)}, "patch": string(patch)})
	}
	text, err := yaml.Marshal(object{"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": []string{above}, "patches": patches})
	return slices.Concat([]byte(mark), text), err
}

// maxOwn bounds what is read of a file of the app's own kustomization, in bytes.
const maxOwn = 1 << 20

// fieldsIn tells which of the fields that a pod is given a kustomization names in any of its files.
func fieldsIn(dir string) (named map[string]bool, err error) {
	named = make(map[string]bool)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Size() > maxOwn {
			return fmt.Errorf("the file %s of the app's kustomization is larger than %d bytes", path, maxOwn)
		}
		text, err := os.ReadFile(path)
		for _, field := range []string{readiness, hook, grace} {
			named[field] = named[field] || bytes.Contains(text, []byte(field))
		}
		return err
	})
	return named, err
}
