package kustomize

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// release is what Helm renders for an app with two process types.
const release = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: mail-web, namespace: default}
spec:
  template:
    spec:
      containers:
      - {name: mail-web, image: "registry.example.com/dokku/mail:3", env: [{name: PORT, value: "5000"}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: mail-worker, namespace: default}
spec:
  template:
    spec:
      containers:
      - {name: mail-worker, image: "registry.example.com/dokku/mail:3"}
`

// deploy is one of an app: Dokku takes the app's own kustomization along, applies what is in the folder, and keeps that.
type deploy struct {
	t *testing.T
	Folder
}

func newDeploy(t *testing.T) *deploy {
	return &deploy{t, Folder{Path: filepath.Join(t.TempDir(), "mail"), App: "mail", PID: "1"}}
}

func (d *deploy) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// extract is what Dokku does with a source tree whose kustomization has this text; "" is none.
func (d *deploy) extract(text string) {
	d.t.Helper()
	d.must(os.MkdirAll(d.Path, 0o755))
	d.must(d.Sweep())
	if text == "" {
		d.must(os.WriteFile(d.next()+".missing", nil, 0o644))
		return
	}
	d.must(os.Mkdir(d.next(), 0o755))
	d.must(os.WriteFile(filepath.Join(d.next(), file), []byte(text), 0o644))
}

// rollOut returns the pod templates that scheduler-k3s applies, by the deployment's name, and ends the deploy well.
func (d *deploy) rollOut() map[string]map[string]any {
	d.t.Helper()
	root := d.next()
	if _, err := os.Stat(root); err != nil {
		root = d.current()
	}
	text := []byte(release)
	if _, err := os.Stat(root); err == nil {
		d.must(os.WriteFile(filepath.Join(root, rendered), text, 0o644))
		options := krusty.MakeDefaultOptions()
		options.LoadRestrictions = types.LoadRestrictionsNone
		made, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), root)
		d.must(err)
		text, err = made.AsYaml()
		d.must(err)
	}
	if _, err := os.Stat(d.next()); err == nil {
		d.must(os.RemoveAll(d.current()))
		d.must(os.Rename(d.next(), d.current()))
	}
	templates := make(map[string]map[string]any)
	for objects := yaml.NewDecoder(strings.NewReader(string(text))); ; {
		var o struct {
			Metadata struct{ Name string }
			Spec     struct{ Template struct{ Spec map[string]any } }
		}
		if objects.Decode(&o) != nil {
			return templates
		}
		templates[o.Metadata.Name] = o.Spec.Template.Spec
	}
}

// has wants the container of a pod template to have these fields, and the pod that grace period; nil and 0 are none.
func (d *deploy) has(template map[string]any, probe, preStop any, grace int) {
	d.t.Helper()
	container := template["containers"].([]any)[0].(map[string]any)
	got, _ := template["terminationGracePeriodSeconds"].(int)
	lifecycle, _ := container["lifecycle"].(map[string]any)
	if !reflect.DeepEqual(container["readinessProbe"], probe) || !reflect.DeepEqual(lifecycle["preStop"], preStop) || got != grace || container["image"] == nil {
		d.t.Errorf("got %v, want the probe %v, preStop %v and the grace period %d", template, probe, preStop, grace)
	}
}

var (
	probe   any = map[string]any{"tcpSocket": map[string]any{"port": 5025}, "periodSeconds": 2, "timeoutSeconds": 2}
	preStop any = map[string]any{"sleep": map[string]any{"seconds": leave}}
	web         = []Process{{Name: "web", Probe: 5025, Drain: 90 * time.Second}}
	drained any = map[string]any{"sleep": map[string]any{"seconds": 90}}
)

// The pods of process types with public ports get what they need, others nothing, in each deploy until they have none any more.
func TestPodsGetWhatTheyNeed(t *testing.T) {
	d := newDeploy(t)
	d.extract("")
	d.must(d.Write([]Process{{Name: "web", Probe: 5025}}))
	pods := d.rollOut()
	d.has(pods["mail-web"], probe, preStop, leave+usual)
	d.has(pods["mail-worker"], nil, nil, 0)

	d.PID = "2" // ps:scale, which extracts nothing
	d.must(d.Write([]Process{{Name: "web"}, {Name: "worker", Probe: 5026}}))
	pods = d.rollOut()
	d.has(pods["mail-web"], nil, preStop, leave+usual)
	if container := pods["mail-worker"]["containers"].([]any)[0].(map[string]any); container["readinessProbe"] == nil {
		t.Errorf("the second deploy gave the worker %v", container)
	}

	d.PID = "3"
	d.must(d.Write([]Process{{Name: "web", Drain: 90500 * time.Millisecond}}))
	d.has(d.rollOut()["mail-web"], nil, map[string]any{"sleep": map[string]any{"seconds": 91}}, 91+usual)

	d.PID = "4"
	d.must(d.Write(nil))
	d.has(d.rollOut()["mail-web"], nil, nil, 0)
}

// The app's own kustomization is kept: all of it, and in all deploys that don't bring another one.
func TestOwnKustomizationIsKept(t *testing.T) {
	const kustomization = "resources: [rendered.yaml]\npatches:\n- target: {kind: Deployment, name: mail-web}\n  patch: |-\n" +
		"    - {op: add, path: /spec/template/spec/%s, value: %s}\n"
	own := func(path, value string) string { return fmt.Sprintf(kustomization, path, value) }
	sleep := map[string]any{"exec": map[string]any{"command": []any{"sleep", "9"}}}
	for _, tt := range []struct {
		name, text     string
		probe, preStop any
		grace          int
	}{
		{"a label", own("hostname", "mail"), probe, drained, 90 + usual},
		{"a readiness probe", own("containers/0/readinessProbe", "{httpGet: {port: 80}}"), map[string]any{"httpGet": map[string]any{"port": 80}}, drained, 90 + usual},
		{"a preStop hook", own("containers/0/lifecycle", `{preStop: {exec: {command: [sleep, "9"]}}}`), probe, sleep, 0},
		{"a grace period", own("terminationGracePeriodSeconds", "99"), probe, preStop, 99},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDeploy(t)
			d.extract(tt.text)
			d.must(d.Write(web))
			d.has(d.rollOut()["mail-web"], tt.probe, tt.preStop, tt.grace)
			d.PID = "2"
			d.must(d.Write(web))
			pod := d.rollOut()["mail-web"]
			d.has(pod, tt.probe, tt.preStop, tt.grace)
			if strings.Contains(tt.text, "hostname") && pod["hostname"] != "mail" {
				t.Errorf("the pod is %v", pod)
			}
			d.PID = "3"
			d.extract("") // the app has it no more
			d.must(d.Write(web))
			d.has(d.rollOut()["mail-web"], probe, drained, 90+usual)
		})
	}
}

// A repository's links lead nowhere: not to a folder of somebody else's, which would be copied, nor to a device without an end.
func TestLinksAreNotFollowed(t *testing.T) {
	d := newDeploy(t)
	d.must(os.MkdirAll(d.Path, 0o755))
	d.must(os.Symlink(t.TempDir(), d.next()))
	if err := d.Write(web); err == nil || !strings.Contains(err.Error(), "is no folder") {
		t.Errorf("a link for the folder gives %v", err)
	}
	d = newDeploy(t)
	d.must(os.MkdirAll(d.next(), 0o755))
	d.must(os.Symlink("/dev/zero", filepath.Join(d.next(), file)))
	d.must(d.Write(web))
	if !isOurs(d.next()) {
		t.Error("nothing is written")
	}
}

// A deploy that has failed leaves its folder, which would fail each later push.
func TestSweep(t *testing.T) {
	d := newDeploy(t)
	d.extract("resources: [rendered.yaml]\n")
	d.must(d.Write(web))
	d.rollOut()
	for _, pid := range []string{"2", "3"} {
		d.PID = pid
		d.must(os.MkdirAll(d.next(), 0o755))
		d.must(os.WriteFile(filepath.Join(d.next(), file), nil, 0o644))
	}
	d.must(d.Sweep())
	left, err := filepath.Glob(filepath.Join(d.Path, "*"))
	if d.must(err); len(left) != 1 || left[0] != d.current() {
		t.Errorf("%v are left", left)
	}
	d.must(Folder{Path: filepath.Join(t.TempDir(), "none")}.Sweep())
}

// An app that has no public port and never had one is left alone.
func TestNothingIsWrittenForNothing(t *testing.T) {
	d := newDeploy(t)
	d.must(d.Write(nil))
	if _, err := os.Stat(d.Path); err == nil {
		t.Error("a folder is made")
	}
	const text = "resources: [rendered.yaml]\n"
	d.extract(text)
	d.must(d.Write(nil))
	if got, err := os.ReadFile(filepath.Join(d.next(), file)); err != nil || string(got) != text {
		t.Errorf("got %q, %v", got, err)
	}
}
