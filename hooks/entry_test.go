package hooks_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/internal/kubetest"
	"dokku-expose/internal/rig/rigtest"
	"dokku-expose/proxy/control"
)

// entryHost is a node of the cluster that is an entry host: it runs the pods of the DaemonSet as processes, with what the manifest says.
// Its engine is the built-in one, whatever that of the Dokku host is.
type entryHost struct {
	*cluster
	api *kubetest.API
	// dir stands for /, and kubeconfig for the pod's credentials.
	dir, kubeconfig string

	mu sync.Mutex
	// pods are the processes, the last one of which is the present pod.
	pods []*exec.Cmd
	ends sync.WaitGroup
}

// startEntryHost makes a node whose pods follow the DaemonSet.
func startEntryHost(c *cluster, api *kubetest.API) *entryHost {
	c.t.Helper()
	n := &entryHost{cluster: c, api: api, dir: c.t.TempDir(), kubeconfig: api.Kubeconfig(c.t)}
	c.leads = n.leadsTo
	api.OnApply(n.applied)
	c.t.Cleanup(func() {
		n.end(0)
		n.ends.Wait()
		if c.t.Failed() {
			text, _ := os.ReadFile(filepath.Join(n.dir, "log"))
			c.t.Logf("the entry host:\n%s", text)
		}
	})
	return n
}

// applied is the DaemonSet's controller: a new pod first, then the old one ends.
func (n *entryHost) applied(o kubetest.Object) {
	if o["kind"] != "DaemonSet" {
		return
	}
	n.start(o)
	n.end(1)
	o["status"] = map[string]any{
		"observedGeneration": o["metadata"].(map[string]any)["generation"], "desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberReady": 1,
	}
	n.api.Put(o)
}

// start starts a pod as the manifest says, and waits until its readiness probe succeeds.
func (n *entryHost) start(o kubetest.Object) {
	container := o["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
	n.mu.Lock()
	defer n.mu.Unlock()
	env := []string{"PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + n.kubeconfig, "NODE_NAME=elsewhere"}
	for _, e := range container["env"].([]any) {
		e := e.(map[string]any)
		value, _ := e["value"].(string)
		switch {
		case value == "":
		case e["name"] == "READY_FILE": // The folder of it is the pod's own.
			value = filepath.Join(n.dir, fmt.Sprint("ready-", len(n.pods)))
			env = append(env, "READY_FILE="+value)
		default:
			value = filepath.Join(n.dir, value)
			env = append(env, fmt.Sprintf("%s=%s", e["name"], value))
		}
	}
	command := func(of any) *exec.Cmd {
		args := of.([]any)
		program := exec.Command(rigtest.Service(n.t))
		for _, arg := range args[1:] {
			program.Args = append(program.Args, arg.(string))
		}
		program.Env = env
		return program
	}
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		n.t.Error(err)
		return
	}
	defer log.Close()
	pod := command(container["command"])
	pod.Stdout, pod.Stderr = log, log
	if err := pod.Start(); err != nil {
		n.t.Error(err)
		return
	}
	n.pods = append(n.pods, pod)
	n.ends.Go(func() {
		if err := pod.Wait(); err != nil {
			n.t.Errorf("pod: %v", err)
		}
	})
	probe := container["readinessProbe"].(map[string]any)["exec"].(map[string]any)["command"]
	await(n.t, "the entry host is ready", func() bool { return command(probe).Run() == nil })
}

// end tells all pods but the last ones to end, which they do when their connections have.
func (n *entryHost) end(but int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.pods) > but {
		_ = n.pods[0].Process.Signal(syscall.SIGTERM)
		n.pods = n.pods[1:]
	}
}

// leadsTo tells whether a port of the entry host leads to the pod.
func (n *entryHost) leadsTo(pod kubetest.Pod) bool {
	engine := control.NewClient(control.ClientConfig{Control: filepath.Join(n.dir, "var/lib/dokku-expose/run/control.sock")}, nil)
	o, err := engine.Observe(n.t.Context(), deploy.Counters)
	n.must(err)
	return slices.ContainsFunc(o.Routes, func(r deploy.RouteState) bool {
		return slices.ContainsFunc(r.Servers, func(s deploy.ServerState) bool { return s.Up && !s.Old && s.Addr.Addr().String() == pod.IPs[0] })
	})
}

// opens waits until a public port of the entry host leads to a version, and closes until it is closed: an entry host is told without that
// anybody waits for it.
func (n *entryHost) opens(port uint16, version string) {
	n.t.Helper()
	await(n.t, "the entry host has opened the port", func() bool {
		c, err := n.dial(port)
		return err == nil && c.version == version
	})
}

func (n *entryHost) closes(port uint16) {
	n.t.Helper()
	await(n.t, "the entry host has closed the port", func() bool {
		_, err := n.dial(port)
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

// The nodes of a cluster that this host is none of serve the ports of the apps there: rollouts, a new version of the daemon and an API
// server that is down cost no connection. Entry hosts have the built-in engine only.
func TestEntryHostsOfForeignCluster(t *testing.T) {
	t.Parallel()
	api := kubetest.New(t)
	c := startClusterOf(t, api)
	api.Put(kubetest.Node("here", "192.0.2.1"))
	public, fresh := c.port(), c.port()
	c.app("mail")
	c.wants(c.refused("pre-build", "mail", source("v1", lead(public, private))), "none of the cluster's nodes", "dokku expose:k3s-install")
	c.wants(c.expose(1, "k3s-install").Stderr, "no image was given")
	c.wants(c.expose(1, "k3s-install", "--image", "expose:1", "--node", "here", "--all-nodes").Stderr, "exclude each other")
	c.wants(c.expose(1, "k3s-install", "--image", "expose:1", "--node", "there").Stderr, `no node "there"`, "here")

	c.wants(c.expose(0, "k3s-install", "--image", "expose:1", "--print").Stdout, "kind: DaemonSet", `image: "expose:1"`)
	if api.Get("Namespace", "", "dokku-expose") != nil {
		t.Error("--print has changed the cluster")
	}

	n := startEntryHost(c, api)
	c.wants(c.expose(0, "k3s-install", "--image", "expose:1", "--node", "here").Stdout, "Entry hosts that serve", "1")
	c.wants(c.push("mail", source("v1", lead(public, private))), "served by the entry hosts")
	n.opens(public, "v1")
	c.wants(strings.Join(table(c.expose(0, "list", "mail").Stdout), "\n"), fmt.Sprint(public), "on the entry hosts")
	c.expose(0, "check")
	c.expose(0, "set", "mail", "tls", "terminate")
	n.closes(public)
	c.wants(c.expose(1, "check").Stderr, fmt.Sprintf("mail: public port %d: entry hosts have no certificate", public))
	c.expose(0, "set", "mail", "tls")
	n.opens(public, "v1")
	c.expose(0, "check")
	daemons := api.Get("DaemonSet", "dokku-expose", "dokku-expose")
	api.Delete("DaemonSet", "dokku-expose", "dokku-expose")
	c.wants(c.expose(1, "check").Stderr, "no entry hosts any more", "dokku expose:k3s-install")
	daemons["status"].(map[string]any)["numberReady"] = 0
	api.Put(daemons)
	c.wants(c.expose(1, "check").Stderr, "0 of 1 entry hosts are ready", "kubectl -n dokku-expose logs")
	entries := filepath.Join(c.Lib, "data", "expose", "entry-hosts.json")
	text, err := os.ReadFile(entries)
	c.must(err)
	c.must(os.WriteFile(entries, regexp.MustCompile(`"version": "[^"]*"`).ReplaceAll(text, []byte(`"version": "0.0.1"`)), 0o644))
	c.wants(c.expose(1, "check").Stderr, "run version 0.0.1", "make the image anew")
	c.must(os.WriteFile(entries, []byte("{"), 0o644))
	c.wants(c.expose(1, "k3s-install", "--image", "expose:2").Stderr, entries, "--all-nodes")
	c.must(os.WriteFile(entries, text, 0o644))
	c.must(c.Scale("mail", "web", 2))

	l := c.load(public, 4, 12)
	l.Phase("rollout")
	c.push("mail", source("v2", lead(public, private), lead(fresh, private)), switched(l, "v2"))
	c.seen(l, 4)
	l.Phase("new daemon")
	held, err := c.dial(public)
	c.must(err)
	c.expose(0, "k3s-install", "--image", "expose:2")
	c.wants(c.expose(0, "k3s-install", "--print").Stdout, `image: "expose:2"`, `operator: In, values: ["here"]`)
	if text := c.expose(0, "k3s-install", "--all-nodes", "--print").Stdout; strings.Contains(text, "operator: In") {
		t.Errorf("of all nodes the manifest says\n%s", text)
	}
	c.must(held.echo())
	c.seen(l, 4)
	l.Phase("API server down")
	api.Fail(503)
	api.BreakWatches()
	c.seen(l, 4)
	c.wants(c.expose(0, "disable", "mail").Stderr, "go on by what they were told before", "Kubernetes API server")
	n.opens(fresh, "v2")
	c.judge(l)
	api.Fail(0)
	n.closes(public)
	n.closes(fresh)

	c.expose(0, "enable", "mail")
	n.opens(public, "v2")
	log, err := os.ReadFile(filepath.Join(n.dir, "log"))
	if err != nil || strings.Contains(string(log), "statistics page") {
		t.Errorf("the entry host serves a statistics page: %v\n%s", err, log)
	}
	c.must(c.Destroy("mail"))
	n.closes(public)

	c.wants(c.expose(0, "k3s-uninstall").Stdout, "No node but this host")
	for _, kind := range []string{"Namespace", "ClusterRole", "ClusterRoleBinding"} {
		if api.Get(kind, "", "dokku-expose") != nil {
			t.Errorf("the %s is left", kind)
		}
	}
	if api.Get("DaemonSet", "dokku-expose", "dokku-expose") != nil {
		t.Error("the DaemonSet is left")
	}
	api.Fail(503)
	c.wants(c.expose(1, "k3s-uninstall").Stderr, "kubectl delete namespace/dokku-expose")
}
