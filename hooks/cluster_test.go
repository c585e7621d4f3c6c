package hooks_test

import (
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"sync"
	"testing"

	"dokku-expose/internal/kubernetes"
	"dokku-expose/internal/kubetest"
	"dokku-expose/internal/rig"
)

// cluster is a Kubernetes cluster of which the host is a node. Its pods are containers; nobody but the API tells whose they are.
type cluster struct {
	*host
	api apiServer

	mu   sync.Mutex
	made int
	// pods are the containers of an app's pods, by the pod's name.
	pods map[string]map[string]kubetest.Pod
	ids  map[string]string
	// ending are the pods that are being deleted: nobody waits for these.
	ending sync.WaitGroup
	// unready has new pods run, and never get ready.
	unready bool
	// roll rolls out; it is rollOut unless pods are real ones.
	roll func(rig.Rollout) error
	// leads tells whether a public port leads to a pod; nil asks the engine of this host.
	leads func(kubetest.Pod) bool
	// kustomization is that of the last rollout.
	kustomization string
}

// apiServer is a Kubernetes API server: the stand-in of kubetest, or a real one.
type apiServer interface {
	Put(kubetest.Object)
	PutPod(kubetest.Pod)
	DeletePod(name string)
	Kubeconfig(testing.TB) string
}

// fallible is an API server that can be lost for a while.
type fallible struct {
	apiServer
	lose, end func()
}

// refusing is a stand-in that refuses all for a while.
func refusing(t *testing.T) fallible {
	api := kubetest.New(t)
	return fallible{api, func() { api.Fail(503); api.BreakWatches() }, func() { api.Fail(0) }}
}

// hanging is a stand-in that hangs for a while.
func hanging(t *testing.T) fallible {
	api := kubetest.New(t)
	return fallible{api, api.Hang, api.Resume}
}

// killed is a real one that is killed, and started again.
func killed(t *testing.T) fallible {
	api := kubernetes.Start(t)
	return fallible{api, api.Stop, api.Resume}
}

// startCluster is start for a host whose apps may be on the scheduler k3s, with a stand-in for the API server.
func startCluster(t *testing.T, change ...func(*rig.Options)) *cluster {
	t.Helper()
	return startClusterOf(t, kubetest.New(t), change...)
}

func startClusterOf(t *testing.T, api apiServer, change ...func(*rig.Options)) *cluster {
	t.Helper()
	c := &cluster{api: api, pods: make(map[string]map[string]kubetest.Pod), ids: make(map[string]string)}
	c.roll = c.rollOut
	c.host = start(t, append(change, func(o *rig.Options) { o.Daemon, o.Rollout = true, func(r rig.Rollout) error { return c.roll(r) } })...)
	t.Cleanup(c.ending.Wait)
	c.must(c.SetProperty("scheduler-k3s", "--global", "kubeconfig-path", c.api.Kubeconfig(t)))
	return c
}

// app makes an app that is on the scheduler k3s.
func (c *cluster) app(name string) {
	c.t.Helper()
	c.must(c.CreateApp(name))
	c.must(c.SetProperty("scheduler", name, "selected", "k3s"))
}

// podsOf are an app's pods.
func (c *cluster) podsOf(app string) (pods []kubetest.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.pods[app])) {
		pods = append(pods, c.pods[app][name])
	}
	return pods
}

// probed finds the port of a readiness probe.
var probed = regexp.MustCompile(`tcpSocket:\s+port: (\d+)`)

// rollOut replaces an app's pods by new ones as a cluster does: it makes all of the new ones, and deletes the old ones when these are
// ready. A pod that is deleted goes on serving until the ports have left it, as long as its preStop hook takes.
func (c *cluster) rollOut(r rig.Rollout) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.pods[r.App]
	c.kustomization = r.Kustomization
	c.pods[r.App] = make(map[string]kubetest.Pod)
	for process, count := range r.Formation {
		for range count {
			id, ip, err := r.Start(process)
			if err != nil {
				return err
			}
			// A pod without a probe is ready as soon as it runs.
			if probe := probed.FindStringSubmatch(r.Kustomization); probe != nil {
				await(c.t, "the readiness probe succeeds", func() bool {
					conn, err := net.Dial("tcp", net.JoinHostPort(ip, probe[1]))
					if err == nil {
						_ = conn.Close()
					}
					return err == nil
				})
			}
			c.made++
			pod := kubetest.Pod{
				App: r.App, Process: process, Name: fmt.Sprintf("%s-%s-5d5c-%d", r.App, process, c.made), Image: r.Image, IPs: []string{ip}, Ready: !c.unready,
			}
			c.pods[r.App][pod.Name], c.ids[pod.Name] = pod, id
			c.api.PutPod(pod)
		}
	}
	if c.unready {
		for name, pod := range old {
			c.pods[r.App][name] = pod
		}
		return fmt.Errorf("helm: %s: timed out waiting for the condition", r.App)
	}
	for _, pod := range old {
		if err := c.end(pod); err != nil {
			return err
		}
	}
	return nil
}

// end deletes a pod.
func (c *cluster) end(pod kubetest.Pod) error {
	pod.Leaving = true
	c.api.PutPod(pod)
	await(c.t, "the ports have left "+pod.Name, func() bool { return !c.leadsTo(pod) })
	id := c.ids[pod.Name]
	c.ending.Go(func() {
		if err := c.EndPod(pod.App, id); err != nil {
			c.t.Error(err)
		}
		c.api.DeletePod(pod.Name)
	})
	return nil
}

// elsewhere is the address of a container that is no pod's.
func (c *cluster) elsewhere() string {
	c.t.Helper()
	c.push("spy", source("spy"))
	spy, err := c.Docker.ContainerInspect(c.t.Context(), c.current("spy", "web.1"))
	c.must(err)
	return spy.NetworkSettings.Networks["bridge"].IPAddress
}

// leadsTo tells whether a public port leads to the pod.
func (c *cluster) leadsTo(pod kubetest.Pod) bool {
	if c.leads != nil {
		return c.leads(pod)
	}
	result, err := c.Command("stats", "--format", "json")
	c.must(err)
	if result.Code != 0 {
		return true // HAProxy's master is deaf for a moment when it reloads.
	}
	for _, route := range decode[shown](c.host, result.Stdout).Routes {
		for _, server := range route.Servers {
			if server.Up && !server.Old && server.Addr.Addr().String() == pod.IPs[0] {
				return true
			}
		}
	}
	return false
}

// servedByPods wants the public port to lead to all pods of the app, and to nothing else.
func (c *cluster) servedByPods(port uint16, app string) {
	c.t.Helper()
	var ids []string
	for _, pod := range c.podsOf(app) {
		ids = append(ids, c.ids[pod.Name])
	}
	c.servedBy(port, ids...)
}
