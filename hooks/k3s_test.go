package hooks_test

import (
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"dokku-expose/internal/kubetest"
	"dokku-expose/internal/rig"
)

// cluster is a Kubernetes cluster of which the host is a node. Its pods are containers; nobody but the API tells whose they are.
type cluster struct {
	*host
	api *kubetest.API

	mu   sync.Mutex
	made int
	// pods are the containers of an app's pods, by the pod's name.
	pods map[string]map[string]kubetest.Pod
	ids  map[string]string
	// ending are the pods that are being deleted: nobody waits for these.
	ending sync.WaitGroup
	// unready has new pods run, and never get ready.
	unready bool
	// leads tells whether a public port leads to a pod; nil asks the engine of this host.
	leads func(kubetest.Pod) bool
	// kustomization is that of the last rollout.
	kustomization string
}

// startCluster is start for a host whose apps may be on the scheduler k3s.
func startCluster(t *testing.T, change ...func(*rig.Options)) *cluster {
	t.Helper()
	c := &cluster{api: kubetest.New(t), pods: make(map[string]map[string]kubetest.Pod), ids: make(map[string]string)}
	c.host = start(t, append(change, func(o *rig.Options) { o.Daemon, o.Rollout = true, c.rollOut })...)
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
	for _, route := range c.stats().Routes {
		for _, server := range route.Servers {
			if server.Up && !server.Old && server.Addr.Addr().String() == pod.IPs[0] {
				return true
			}
		}
	}
	return false
}

// An app on the scheduler k3s has the ports of its PORTS as any other. Its pods replace one another one by one, each by the PORTS of its
// own image, and no connection is lost.
func TestDeploysOfPodsLoseNoConnection(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		c := startCluster(t, engine)
		public, late := c.port(), c.port()
		version := func(n uint16, lines ...string) rig.Source {
			src := source(fmt.Sprint("v", n), append(lines, lead(public, private+n))...)
			src.Listen = []uint16{private + n}
			return src
		}
		c.app("mail")
		c.wants(c.push("mail", version(1)), "Public ports of mail", fmt.Sprintf("%d -> %s@here", public, c.podsOf("mail")[0].Name))
		c.answers(public, "v1")
		c.must(c.Scale("mail", "web", 2))
		c.servedByPods(public, "mail")
		held, err := c.dial(public)
		c.must(err)

		l := c.load(public, 4, 12)
		for n := uint16(2); n <= 3; n++ {
			var lines []string
			if n == 3 {
				lines = append(lines, lead(late, private+n))
			}
			l.Phase(fmt.Sprint("rollout of v", n))
			c.push("mail", version(n, lines...), switched(l, fmt.Sprint("v", n)))
			c.seen(l, 4)
			if n == 2 {
				c.must(held.echo())
			}
		}
		c.judge(l)
		c.servedByPods(public, "mail")
		c.answers(late, "v3")
		c.wants(c.expose(0, "list", "mail").Stdout, c.podsOf("mail")[0].Name, "serving")

		c.wants(c.kustomization, "name: mail-web", "tcpSocket", fmt.Sprint("port: ", private+3), "preStop")
		c.must(c.Stop("mail"))
		c.closed(public, late)
		c.must(c.Start("mail"))
		c.answers(public, "v3")
		c.must(c.Destroy("mail"))
		c.closed(public, late)
	})
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

// A version that never gets ready changes nothing, and neither does its PORTS. A pod that is not ready any more gets no connection.
func TestPodsThatAreNotReady(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		c := startCluster(t, engine)
		public, fresh := c.port(), c.port()
		c.app("mail")
		c.push("mail", source("v1", lead(public, private)))
		c.unready = true
		if err := c.Push("mail", source("v2", lead(public, private), lead(fresh, private))); err == nil {
			t.Error("the push of a version that never gets ready has gone well")
		}
		c.answers(public, "v1")
		c.closed(fresh)
		c.unready = false
		// The failed deploy has left a folder, which would fail this one.
		c.expose(0, "set", "mail", "kustomize", "off")
		c.push("mail", source("v3", lead(public, private)))
		c.answers(public, "v3")
		if strings.Contains(c.kustomization, "tcpSocket") {
			t.Errorf("the setting is off, and the pods get\n%s", c.kustomization)
		}

		pod := c.podsOf("mail")[0]
		pod.Ready = false
		c.api.PutPod(pod)
		await(t, "the pod is left", func() bool { return !c.leadsTo(pod) })
		c.wants(c.expose(1, "check", "mail").Stderr, pod.Name, "is not ready")
		pod.Ready = true
		c.api.PutPod(pod)
		c.answers(public, "v3") // held until then
	})
}

// Pods of somebody else with the labels of an app get nothing: not those of another namespace, of another chart, or of a task.
func TestPodsOfSomebodyElse(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	public := c.port()
	c.app("mail")
	c.push("mail", source("v1", lead(public, private)))
	ip := c.elsewhere()
	for n, edit := range []func(kubetest.Object){
		func(o kubetest.Object) { o["metadata"].(map[string]any)["namespace"] = "elsewhere" },
		func(o kubetest.Object) { delete(o["metadata"].(map[string]any), "annotations") },
		func(o kubetest.Object) { delete(o["metadata"].(map[string]any), "ownerReferences") },
	} {
		c.api.PutPod(kubetest.Pod{App: "mail", Process: "web", Name: fmt.Sprint("spy-", n), Image: "spy:1", IPs: []string{ip}, Ready: true, Edit: edit})
	}
	c.expose(0, "sync")
	c.servedByPods(public, "mail")
}

// A cluster may call a rollout done while an old pod is still there: the PORTS in force is the new one. Which is, no engine has a part in.
func TestOldPodThatIsStillThere(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	public, late := c.port(), c.port()
	c.app("mail")
	c.push("mail", source("v1", lead(public, private)))
	old := c.podsOf("mail")[0]
	old.Name, old.IPs = "mail-web-last", []string{c.elsewhere()}
	c.api.PutPod(old)
	c.push("mail", source("v2", lead(public, private), lead(late, private)))
	c.wants(strings.Join(table(c.expose(0, "list", "mail").Stdout), "\n"), fmt.Sprint(late), "PORTS line 2")
}

// A push is refused in time whose public port the cluster takes for itself, or whose pods this host can't reach.
func TestPushToAClusterIsRefused(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	public, balanced, node := c.port(), c.port(), c.port()
	c.app("mail")
	c.api.Put(kubetest.Service("kube-system", "traefik", kubetest.Object{
		"type": "LoadBalancer", "ports": []kubetest.Object{{"port": balanced, "nodePort": node, "protocol": "TCP"}},
	}, kubetest.Object{}))
	for _, port := range []uint16{balanced, node} {
		c.wants(c.refused("pre-build", "mail", source("v1", lead(public, private), lead(port, private))),
			fmt.Sprintf("public port %d (PORTS line 2)", port), "Service kube-system/traefik of type LoadBalancer")
	}
	c.push("mail", source("v1", lead(public, private)))

	c.api.Put(kubetest.Node("here", "192.0.2.1"))
	for _, parts := range [][]string{{"none of the cluster's nodes", "scheduler-k3s:cluster-add"}, {"Kubernetes API server", "systemctl status k3s"}} {
		var text strings.Builder
		c.fails("pre-build", c.Push("mail", source("v2", lead(public, private)), said(&text)))
		c.wants(text.String(), parts...)
		c.answers(public, "v1")
		c.api.Fail(503)
	}
}

// While the API server is away pods that go on accepting serve, others leave, and apps of this host are deployed as ever.
func TestWithoutAPIServer(t *testing.T) {
	for _, test := range []struct {
		name      string
		engine    func(*rig.Options)
		lose, end func(*kubetest.API)
	}{
		// How a source is lost is the daemon's to find out, and the same for both engines.
		{"refusing", func(*rig.Options) {}, func(a *kubetest.API) { a.Fail(503); a.BreakWatches() }, func(a *kubetest.API) { a.Fail(0) }},
		{"hanging", builtin, (*kubetest.API).Hang, (*kubetest.API).Resume},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, test.engine)
			public, local := c.port(), c.port()
			c.app("mail")
			c.push("mail", source("v1", lead(public, private)))
			c.must(c.Scale("mail", "web", 2))
			c.push("news", source("n1", lead(local, private)))

			test.lose(c.api)
			c.wants(c.push("news", source("n2", lead(local, private))), "Kubernetes API server")
			c.answers(local, "n2")
			c.servedByPods(public, "mail")
			list := strings.Join(table(c.expose(0, "list").Stdout), "\n")
			c.wants(list, fmt.Sprintf("mail %d ", public), "unknown", fmt.Sprintf("news %d ", local), "serving")
			gone := c.podsOf("mail")[0]
			c.must(c.EndPod("mail", c.ids[gone.Name]))
			await(t, "the pod that has ended is left", func() bool { return !c.leadsTo(gone) })
			c.answers(public, "v1")
			c.must(c.Stop("news"))
			c.closed(local)

			test.end(c.api)
			gone.Leaving = true
			c.api.PutPod(gone)
			await(t, "the cluster is asked again", func() bool {
				result, err := c.Command("check", "mail")
				c.must(err)
				return result.Code == 0
			})
			c.answers(public, "v1")
		})
	}
}

// An app that moves from one scheduler to the other keeps its port, and loses no connection.
func TestMoveFromOneSchedulerToTheOther(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		c := startCluster(t, engine)
		public := c.port()
		c.push("mail", source("v1", lead(public, private)))
		l := c.load(public, 4, 10)
		l.Phase("to pods")
		c.must(c.SetProperty("scheduler", "mail", "selected", "k3s"))
		c.push("mail", source("v2", lead(public, private)), switched(l, "v2"))
		c.servedByPods(public, "mail")
		l.Phase("to containers")
		c.must(c.SetProperty("scheduler", "mail", "selected", "docker-local"))
		c.push("mail", source("v3", lead(public, private)), switched(l, "v3"))
		c.servedBy(public, c.containers("mail")...)
		c.judge(l)
	})
}
