package hooks_test

import (
	"fmt"
	"strings"
	"testing"

	"dokku-expose/internal/kubetest"
	"dokku-expose/internal/rig"
)

// An app on the scheduler k3s has the ports of its PORTS as any other. Its pods replace one another one by one, each by the PORTS of its
// own image, and no connection is lost, nor while the API server is away.
func TestDeploysOfPodsLoseNoConnection(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) { testDeploysOfPods(t, refusing(t), engine) })
}

// The same with a real API server, whose pods are the rig's containers.
func TestDeploysOfPodsOfARealServer(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) { testDeploysOfPods(t, killed(t), engine) })
}

func testDeploysOfPods(t *testing.T, api fallible, engine func(*rig.Options)) {
	c := startClusterOf(t, api, engine)
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
			l.Phase("without the API server")
			api.lose()
			c.seen(l, 20)
			api.end()
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
	api := refusing(t)
	c := startClusterOf(t, api)
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
		api.lose()
	}
}

// While the API server is away pods that go on accepting serve, others leave, and apps of this host are deployed as ever.
func TestWithoutAPIServer(t *testing.T) {
	for _, test := range []struct {
		name   string
		start  func(*testing.T) fallible
		engine func(*rig.Options)
	}{
		// How a source is lost is the daemon's to find out, and the same for both engines.
		{"refusing", refusing, func(*rig.Options) {}},
		{"hanging", hanging, builtin},
		{"killed", killed, builtin},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			api := test.start(t)
			c := startClusterOf(t, api, test.engine)
			public, local := c.port(), c.port()
			c.app("mail")
			c.push("mail", source("v1", lead(public, private)))
			c.must(c.Scale("mail", "web", 2))
			c.push("news", source("n1", lead(local, private)))

			api.lose()
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

			api.end()
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

// The pods of the old name serve until Dokku deletes them, and clients are held until those of the new name are ready.
func TestRenameOnCluster(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		c := startCluster(t, engine, settings("hold", "1h"))
		public := c.port()
		// Of an app with a scheduler of its own Dokku (0.38.27) leaves the old pods: it has forgotten their scheduler when it destroys them.
		c.must(c.SetProperty("scheduler", "--global", "selected", "k3s"))
		c.push("mail", source("v1", lead(public, private)))
		old := c.podsOf("mail")[0]
		// No held connections: their pod ends them.
		l := c.load(public, 4, 0)
		c.must(c.Rename("mail", "post", rig.Before(func(call rig.Call) bool {
			if call.Name == "pre-delete" {
				l.Phase("the old pods are about to be deleted")
				c.seen(l, 20)
				if !c.leadsTo(old) {
					t.Errorf("the port has left %s", old.Name)
				}
			}
			return true
		})))
		c.servedByPods(public, "post")
		c.answers(public, "v1")
		c.judge(l)
		c.wants(c.expose(0, "check").Stdout, "Nothing is wrong")
		c.must(c.Destroy("post"))
		c.closed(public)
	})
}
