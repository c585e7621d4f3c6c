package hooks_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/docker/docker/api/types/image"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"dokku-expose/internal/kubernetes"
	"dokku-expose/internal/kubetest"
	"dokku-expose/internal/load"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/rig/rigtest"
	"dokku-expose/internal/wait"
)

// nodes is a cluster whose nodes run an app's pods, as Deployments that are those of Dokku's chart.
type nodes struct {
	*cluster
	real *kubernetes.Cluster
	// deadline is how long new pods may take to be ready, in seconds.
	deadline int
	// led tells whether ports lead to a pod.
	led func(realPod) bool
	// retired are the pods that the loads were told of.
	retired map[string]bool
}

func startOnNodes(t *testing.T, real *kubernetes.Cluster, change ...func(*rig.Options)) *nodes {
	t.Helper()
	n := &nodes{cluster: startClusterOf(t, real, change...), real: real, deadline: 120, retired: make(map[string]bool)}
	n.roll = n.rollOut
	n.led = func(p realPod) bool { return n.leadsTo(kubetest.Pod{IPs: []string{p.Status.PodIP}}) }
	return n
}

const deployments = "/apis/apps/v1/namespaces/default/deployments"

// ofApp selects an app's objects.
func ofApp(app string) string {
	return "?labelSelector=" + url.QueryEscape("app.kubernetes.io/part-of="+app)
}

// rollOut is `helm upgrade --wait`.
func (n *nodes) rollOut(r rig.Rollout) error {
	if r.Formation == nil { // The app is stopped.
		_, err := n.real.Do(http.MethodDelete, deployments+ofApp(r.App), "", nil)
		return err
	}
	n.bring(r.Built, r.Image)
	n.kustomization = r.Kustomization
	for process, count := range r.Formation {
		n.must(n.real.Apply(n.deployment(r, process, count)))
	}
	var err error
	wait.Until(n.t, "the rollout is over", func() bool {
		var done bool
		done, err = n.rolledOut(r.App)
		return err != nil || n.leave(r.App) && done
	})
	return err
}

// bring gives the nodes an image of Docker's.
func (n *nodes) bring(built, name string) {
	n.must(n.Docker.ImageTag(n.t.Context(), built, name))
	defer func() {
		_, err := n.Docker.ImageRemove(n.t.Context(), name, image.RemoveOptions{})
		n.must(err)
	}()
	saved, err := n.Docker.ImageSave(n.t.Context(), []string{name})
	n.must(err)
	defer saved.Close()
	path := filepath.Join(n.t.TempDir(), "image.tar")
	file, err := os.Create(path)
	n.must(err)
	_, err = io.Copy(file, saved)
	n.must(errors.Join(err, file.Close()))
	n.real.Load(path)
}

// apart has pods on different nodes, where there are enough.
func apart(labels kubernetes.Object) kubernetes.Object {
	term := kubernetes.Object{"topologyKey": "kubernetes.io/hostname", "labelSelector": kubernetes.Object{"matchLabels": labels}}
	return kubernetes.Object{"podAntiAffinity": kubernetes.Object{
		"preferredDuringSchedulingIgnoredDuringExecution": []kubernetes.Object{{"weight": 100, "podAffinityTerm": term}},
	}}
}

// deployment is that of a process type in Dokku's chart, with the kustomization.
func (n *nodes) deployment(r rig.Rollout, process string, count int) kubernetes.Object {
	name := r.App + "-" + process
	labels := kubernetes.Object{"app.kubernetes.io/part-of": r.App, "app.kubernetes.io/name": process, "app.kubernetes.io/instance": name}
	o := kubernetes.Object{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": kubernetes.Object{"name": name, "namespace": "default", "labels": labels},
		"spec": kubernetes.Object{
			"replicas": count, "progressDeadlineSeconds": n.deadline, "selector": kubernetes.Object{"matchLabels": labels},
			"template": kubernetes.Object{
				"metadata": kubernetes.Object{"labels": labels, "annotations": kubernetes.Object{"dokku.com/managed": "true"}},
				"spec": kubernetes.Object{"affinity": apart(labels), "containers": []kubernetes.Object{{
					"name": name, "image": r.Image,
					// The app's greeting has it.
					"env": []kubernetes.Object{{"name": "ID", "valueFrom": kubernetes.Object{"fieldRef": kubernetes.Object{"fieldPath": "metadata.uid"}}}},
				}}},
			},
		},
	}
	if r.Kustomization == "" {
		return o
	}
	text, err := json.Marshal(o)
	files := filesys.MakeFsInMemory()
	n.must(errors.Join(err, files.WriteFile("/kustomization.yaml", []byte(r.Kustomization)), files.WriteFile("/rendered.yaml", text)))
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/")
	n.must(err)
	o, err = made.Resources()[0].Map()
	n.must(err)
	return o
}

// rolledOut tells whether a rollout has ended, or why it never will.
func (n *nodes) rolledOut(app string) (bool, error) {
	for _, o := range n.list(deployments + ofApp(app)) {
		var d struct {
			Metadata struct{ Generation int }
			Spec     struct{ Replicas int }
			Status   struct {
				ObservedGeneration, Replicas, UpdatedReplicas, AvailableReplicas int
				Conditions                                                       []struct{ Type, Status, Message string }
			}
		}
		n.decode(o, &d)
		for _, c := range d.Status.Conditions {
			if c.Type == "Progressing" && c.Status == "False" && d.Status.ObservedGeneration == d.Metadata.Generation {
				return false, fmt.Errorf("helm: %s", c.Message)
			}
		}
		want := d.Spec.Replicas
		if d.Status.ObservedGeneration != d.Metadata.Generation || d.Status.Replicas != want || d.Status.UpdatedReplicas != want || d.Status.AvailableReplicas != want {
			return false, nil
		}
	}
	return true, nil
}

// leave tells the loads of pods that are being deleted, once the ports have left them, and whether they have left all. Such a pod serves
// on for as long as its preStop hook takes.
func (n *nodes) leave(app string) (all bool) {
	all = true
	for _, p := range n.pods(app) {
		uid := p.Metadata.UID
		switch {
		case p.Metadata.DeletionTimestamp == "" || n.retired[uid]:
		case n.led(p):
			all = false
		default:
			n.retired[uid] = true
			n.retire(uid)
		}
	}
	return all
}

// loses loses a node that has a pod of the app, and is not the one that is kept. Nothing of the load may fail but the connections under way.
func (n *nodes) loses(app, kept string, l *load.Load, openers int) {
	n.t.Helper()
	l.Phase(losing)
	var lost []realPod
	node := ""
	for _, p := range n.pods(app) {
		if p.Metadata.DeletionTimestamp != "" || p.Spec.NodeName == kept {
			continue
		}
		if node == "" {
			node = p.Spec.NodeName
		}
		if p.Spec.NodeName == node {
			lost = append(lost, p)
			l.Dies(p.Metadata.UID)
		}
	}
	if len(lost) == 0 {
		n.t.Fatalf("all pods are on %s", kept)
	}
	n.real.Lose(node)
	for _, p := range lost {
		await(n.t, "the ports have left "+p.Metadata.Name, func() bool { return !n.led(p) })
	}
	l.Phase("afterwards")
	n.seen(l, 200)
	// Until the cluster notices the node's silence it would give it new pods.
	_, err := n.real.Do(http.MethodPatch, "/api/v1/nodes/"+node, "application/merge-patch+json", kubernetes.Object{"spec": kubernetes.Object{"unschedulable": true}})
	n.must(err)
	r := l.Stop()
	for _, phase := range r.Phases {
		most := 0
		if phase.Name == losing {
			most = openers // Each may have had a connection under way.
		}
		if phase.Failed() > most {
			n.t.Errorf("%s: %d connections failed, want %d at most: %v", phase.Name, phase.Failed(), most, r.Failures)
		}
	}
	if r.Held.Broken > 0 {
		n.t.Errorf("%d held connections to other nodes were broken: %v", r.Held.Broken, r.Failures)
	}
	n.t.Log(r.Summary())
}

// losing is the phase in which a node is lost.
const losing = "a node is lost"

// realPod is a pod as the API has it.
type realPod struct {
	Metadata struct{ Name, UID, DeletionTimestamp string }
	Spec     struct{ NodeName string }
	Status   struct{ PodIP string }
}

func (n *nodes) pods(app string) []realPod {
	var pods []realPod
	n.decode(n.list("/api/v1/namespaces/default/pods"+ofApp(app)), &pods)
	return pods
}

func (n *nodes) list(path string) (all []kubernetes.Object) {
	n.t.Helper()
	o, err := n.real.Do(http.MethodGet, path, "", nil)
	n.must(err)
	n.decode(o["items"], &all)
	return all
}

// decode makes v of an object.
func (n *nodes) decode(o, v any) {
	n.t.Helper()
	text, err := json.Marshal(o)
	n.must(err)
	n.must(json.Unmarshal(text, v))
}

// Real nodes roll out pods under load, on both engines: rollouts, a version that never listens and an API server that is away cost no
// connection, and the loss of a node costs those that were under way to it.
func TestRealNodes(t *testing.T) {
	real := kubernetes.StartCluster(t, 3, rigtest.App(t))
	for _, engine := range []struct {
		name   string
		change func(*rig.Options)
	}{{"haproxy", func(*rig.Options) {}}, {"builtin", builtin}} {
		t.Run(engine.name, func(t *testing.T) {
			n := startOnNodes(t, real, engine.change)
			app, public := "mail-"+engine.name, n.port()
			n.app(app)
			n.push(app, source("v1", lead(public, private)))
			n.must(n.Scale(app, "web", 2))
			n.answers(public, "v1")

			l := n.load(public, 4, 12)
			l.Phase("rollout of v2")
			n.push(app, source("v2", lead(public, private)), switched(l, "v2"))
			n.seen(l, 20)
			l.Phase("a version that never listens")
			deaf := source("v3", lead(public, private))
			deaf.Env["NOLISTEN"] = "true"
			n.deadline = 10
			if err := n.Push(app, deaf); err == nil {
				t.Error("the push of a version that never listens has gone well")
			}
			n.deadline = 120
			n.seen(l, 20)
			l.Phase("without the API server")
			real.Stop()
			n.seen(l, 20)
			real.Resume()
			l.Phase("rollout of v4")
			n.push(app, source("v4", lead(public, private)), switched(l, "v4"))
			n.seen(l, 20)
			n.judge(l)
			n.answers(public, "v4")
			n.loses(app, "", n.load(public, 4, 12), 4)
			n.must(n.Destroy(app))
			n.closed(public)
		})
	}
}

// Entry hosts on real nodes: rollouts, a new version of their daemon and an API server that is away cost no connection, and the loss of another
// node costs those that were under way to it.
func TestRealNodesAsEntryHosts(t *testing.T) {
	const app = "mail"
	real := kubernetes.StartCluster(t, 2, rigtest.App(t))
	n := startOnNodes(t, real, builtin)
	public := n.port()
	n.app(app)
	n.push(app, source("v1", lead(public, private)))
	n.must(n.Scale(app, "web", 2))
	images := []string{"registry.example.com/dokku-expose:1", "registry.example.com/dokku-expose:2"}
	for _, image := range images {
		real.LoadProgram(image, rigtest.Plugin(t))
	}
	n.wants(n.expose(0, "k3s-install", "--image", images[0]).Stdout, "Entry hosts that serve", "2")
	entry := netip.AddrPortFrom(kubernetes.Address(1), public)
	n.led = func(p realPod) bool {
		for range 16 {
			c, err := n.dialAt(entry)
			n.must(err)
			if err := c.Close(); err != nil || strings.HasPrefix(p.Metadata.UID, c.container) {
				return true
			}
		}
		return false
	}

	const openers = 4
	l := n.loadAt(load.Config{Addr: entry, Openers: openers, Holders: 12})
	l.Phase("rollout of v2")
	n.push(app, source("v2", lead(public, private)))
	n.seen(l, 20)
	l.Phase("a new daemon")
	n.expose(0, "k3s-install", "--image", images[1])
	n.seen(l, 20)
	l.Phase("without the API server")
	real.Stop()
	n.seen(l, 20)
	real.Resume()
	l.Phase("rollout of v3")
	n.push(app, source("v3", lead(public, private)))
	n.seen(l, 20)
	n.loses(app, "node-1", l, openers)
	n.expose(0, "k3s-uninstall")
	wait.Until(t, "the entry host has closed the port", func() bool {
		_, err := n.dialAt(entry)
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}
