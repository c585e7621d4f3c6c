package kubernetes

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"dokku-expose/internal/kubetest"
	"dokku-expose/internal/need"
	"dokku-expose/internal/wait"
)

// The network of the nodes is a bridge of this host, whose address is the first one. Pods have the networks 10.213.1.0/24 and so on.
const (
	bridge  = "expose-nodes"
	network = "10.213.0."
	gateway = network + "1"
)

// cni is Debian's folder of network plugins.
const cni = "/usr/lib/cni/"

//go:embed node.sh
var nodeScript string

// Cluster is a server with nodes that run pods. This host is a node, too: it runs none, and reaches the pods of the others.
type Cluster struct {
	*Server
	// app is the program of the test app, which is also what holds a pod's network.
	app   string
	nodes []*node
}

type node struct {
	name, dir string
	process   *process
}

// StartCluster starts a cluster with that number of nodes, node-1 and so on, and waits until they are ready. app is the static program of
// internal/testapp. It needs root, and is too much for a run of all tests.
func StartCluster(t testing.TB, nodes int, app string) *Cluster {
	t.Helper()
	if os.Getenv(programsVariable) == "" {
		t.Skip("this test has a whole cluster: `make test-k3s` runs it")
	}
	programs := programs(t)
	need.Mounts(t)
	for program, pkg := range map[string]string{
		"ip": "iproute2", "iptables": "iptables", "conntrack": "conntrack", "containerd": "containerd", "runc": "runc", cni + "bridge": "containernetworking-plugins",
	} {
		need.Program(t, program, pkg)
	}
	_ = exec.Command("ip", "link", "delete", bridge).Run() // what a killed test has left
	ip(t, "link", "add", bridge, "type", "bridge")
	t.Cleanup(func() { ip(t, "link", "delete", bridge) })
	ip(t, "address", "add", gateway+"/24", "dev", bridge)
	ip(t, "link", "set", bridge, "up")

	c := &Cluster{Server: start(t, programs, gateway, "--advertise-address", gateway), app: app}
	kubeconfig := c.Kubeconfig(t)
	c.run(kubernetes, "kube-controller-manager", "--kubeconfig", kubeconfig, "--leader-elect=false", "--secure-port=0", "--root-ca-file", c.cert.Chain,
		"--controllers=deployment-controller,replicaset-controller,daemonset-controller,garbage-collector-controller,node-lifecycle-controller,"+
			"namespace-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,endpointslice-controller")
	c.run(kubernetes, "kube-scheduler", "--kubeconfig", kubeconfig, "--leader-elect=false", "--secure-port=0")
	t.Cleanup(c.tell)
	for n := range nodes {
		c.nodes = append(c.nodes, c.startNode(n+1, kubeconfig))
	}
	for _, n := range c.nodes {
		c.await(n.name+" is ready", func() error {
			o, err := c.Do(http.MethodGet, "/api/v1/nodes/"+n.name, "", nil)
			if err == nil && condition(o, "Ready") != "True" {
				err = fmt.Errorf("it is not: %v", o["status"])
			}
			return err
		})
	}
	return c
}

func (c *Cluster) startNode(n int, kubeconfig string) *node {
	c.t.Helper()
	made := &node{name: fmt.Sprint("node-", n), dir: c.path(fmt.Sprint("node-", n))}
	c.must(os.Mkdir(made.dir, 0o755))
	address, pods := Address(n).String(), fmt.Sprintf("10.213.%d.0/24", n)
	c.must(archive(filepath.Join(made.dir, "pause.tar"), "localhost/pause:1", "pause", c.app, "NOLISTEN=true"))
	log, err := os.Create(c.path(made.name + ".log"))
	c.must(err)
	defer log.Close()
	cmd := exec.Command("unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", nodeScript)
	cmd.Env = append(os.Environ(), "NAME="+made.name, "ADDRESS="+address, "GATEWAY="+gateway, "PODS="+pods, "DIR="+made.dir, "PROGRAMS="+c.programs,
		"KUBECONFIG="+kubeconfig, "CNI="+cni)
	c.t.Cleanup(func() { c.removeGroups(made.name) })
	made.process = c.start(cmd, log)
	c.t.Cleanup(made.process.kill)
	pid := made.process.cmd.Process.Pid
	own, err := os.Readlink("/proc/self/ns/net")
	c.must(err)
	c.await(made.name+" has a network", func() error {
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if its == own {
			err = errors.New("it has this host's")
		}
		return err
	})
	ip(c.t, "link", "add", made.name, "master", bridge, "up", "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(pid))
	ip(c.t, "route", "add", pods, "via", address)
	return made
}

// removeGroups removes the control groups of a node that has ended.
func (c *Cluster) removeGroups(name string) {
	roots, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
	c.must(err)
	for _, root := range append(roots, "/sys/fs/cgroup/"+name) {
		var groups []string
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		for i := len(groups) - 1; i >= 0; i-- {
			wait.Until(c.t, "the control group of a node can be removed", func() bool {
				err := os.Remove(groups[i])
				return err == nil || errors.Is(err, fs.ErrNotExist)
			})
		}
	}
}

// Address is that of a node, by its number.
func Address(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprint(network, 10+n)) }

// Lose ends a node at once and for good, as a loss of power does. The cluster notices the node's silence later.
func (c *Cluster) Lose(name string) {
	c.t.Helper()
	c.nodes = slices.DeleteFunc(c.nodes, func(n *node) bool {
		if n.name == name {
			c.must(n.process.cmd.Process.Kill())
			<-n.process.done
		}
		return n.name == name
	})
}

// Load gives an image, in Docker's format, to all nodes.
func (c *Cluster) Load(archive string) {
	c.t.Helper()
	for _, n := range c.nodes {
		out, err := exec.Command("ctr", "--address", filepath.Join(n.dir, "containerd.sock"), "--namespace", "k8s.io", "images", "import", "--snapshotter", "native", archive).CombinedOutput()
		if err != nil {
			c.t.Fatalf("%s: ctr images import: %v\n%s", n.name, err, out)
		}
	}
}

// tell logs the states and the output of all pods when the test has failed.
func (c *Cluster) tell() {
	if !c.t.Failed() {
		return
	}
	list, err := c.Do(http.MethodGet, "/api/v1/pods", "", nil)
	if err != nil {
		c.t.Log(err) // One that was started anew has ended already.
	}
	items, _ := list["items"].([]any)
	for _, o := range items {
		pod := Object(o.(map[string]any))
		status, err := json.Marshal(pod["status"].(map[string]any)["containerStatuses"])
		c.t.Log("pod", kubetest.Text(pod, "metadata", "name"), "on", kubetest.Text(pod, "spec", "nodeName"), string(status), err)
	}
	logs, err := filepath.Glob(c.path("node-*/pods/*/*/*.log"))
	for _, path := range logs {
		text, readErr := os.ReadFile(path)
		c.t.Log(path, readErr, string(text))
	}
	if err != nil {
		c.t.Log(err)
	}
}

// condition is the status of an object's condition.
func condition(o Object, name string) string {
	status, _ := o["status"].(map[string]any)
	list, _ := status["conditions"].([]any)
	for _, c := range list {
		if c, _ := c.(map[string]any); c["type"] == name {
			return kubetest.Text(c, "status")
		}
	}
	return ""
}

func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// LoadProgram gives an image of that name to all nodes that has a static program and nothing else, under its own name.
func (c *Cluster) LoadProgram(name, program string) {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), "image.tar")
	c.must(archive(path, name, filepath.Base(program), program))
	c.Load(path)
}

// archive writes an image in Docker's format that has a static program and nothing else, as the file that is named.
func archive(path, name, file, program string, env ...string) error {
	text, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	layer, err := tarred(map[string][]byte{file: text})
	if err != nil {
		return err
	}
	config, err := json.Marshal(Object{
		"architecture": runtime.GOARCH, "os": "linux", "config": Object{"Entrypoint": []string{"/" + file}, "Env": env},
		"rootfs": Object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]Object{{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	whole, err := tarred(map[string][]byte{"manifest.json": manifest, "config.json": config, "layer.tar": layer})
	if err != nil {
		return err
	}
	return os.WriteFile(path, whole, 0o600)
}

func tarred(files map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	for name, text := range files {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), Format: tar.FormatPAX}); err != nil {
			return nil, err
		}
		if _, err := archive.Write(text); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), archive.Close()
}
