package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/internal/kubetest"
)

// inDefault is the namespace of all apps.
func inDefault(string) (string, error) { return "default", nil }

// newClient is one of a server, as the user of that context.
func newClient(t *testing.T, api interface{ Kubeconfig(testing.TB) string }, context string) *Client {
	t.Helper()
	c, err := New(Config{Kubeconfig: api.Kubeconfig(t), Context: context, Namespace: inDefault})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func ids(list []deploy.Endpoint) (names []string) {
	for i := range list {
		name, _, _ := strings.Cut(list[i].Dyno, "@")
		names = append(names, name)
	}
	return names
}

func testEndpoints(t *testing.T, api server) {
	api.PutPod(kubetest.Pod{App: "mail", Process: "web", Name: "mail-web-1", Image: "registry.example.com/mail:3", IPs: []string{"10.42.0.7", "fd42::7"}, Ready: true})
	c := newClient(t, api, "")
	got, err := c.Endpoints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []deploy.Endpoint{{
		ID: api.UID("Pod", "default", "mail-web-1"), App: "mail", Process: "web", Dyno: "mail-web-1@here", Image: "tag:3", Pod: true,
		Running: true, State: "running", NetworkMode: "pod", Direct: []netip.Addr{netip.MustParseAddr("10.42.0.7"), netip.MustParseAddr("fd42::7")},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Anybody may give the labels to pods of their own, and Dokku gives them to tasks too.
func testOnlyPodsOfDeploymentsCount(t *testing.T, api server) {
	meta := func(key string, value any) func(kubetest.Object) {
		return func(o kubetest.Object) { o["metadata"].(map[string]any)[key] = value }
	}
	label := func(key, value string) func(kubetest.Object) {
		return func(o kubetest.Object) { o["metadata"].(map[string]any)["labels"].(map[string]any)[key] = value }
	}
	owner := func(kind string, controller bool) func(kubetest.Object) {
		return meta("ownerReferences", []any{map[string]any{"apiVersion": "v1", "kind": kind, "name": "owner", "uid": "1-2-3", "controller": controller}})
	}
	for name, edit := range map[string]func(kubetest.Object){
		"of-a-job":            owner("Job", true),
		"of-nobody":           meta("ownerReferences", nil),
		"of-no-controller":    owner("ReplicaSet", false),
		"not-managed":         meta("annotations", map[string]any{"dokku.com/managed": "false"}),
		"without-annotations": meta("annotations", nil),
		"without-labels":      meta("labels", nil),
		"of-another-instance": label(labelInstance, "mail-worker"),
		"of-another-process":  label(labelProcess, "worker"),
		"of-no-app":           label(labelApp, ""),
	} {
		api.PutPod(kubetest.Pod{App: "mail", Process: "web", Name: name, IPs: []string{"10.42.0.7"}, Ready: true, Edit: edit})
	}
	api.PutPod(kubetest.Pod{App: "mail", Process: "web", Name: "elsewhere", Namespace: "evil", IPs: []string{"10.42.0.7"}, Ready: true})
	api.PutPod(kubetest.Pod{App: "mail", Process: "web", Name: "mail-web-1", IPs: []string{"10.42.0.8"}, Ready: true})
	api.PutPod(kubetest.Pod{App: "blog", Process: "web", Name: "blog-web-1", Namespace: "blogs", IPs: []string{"10.42.0.9"}, Ready: true})
	api.PutPod(kubetest.Pod{App: "blog", Process: "web", Name: "blog-in-default", IPs: []string{"10.42.0.9"}, Ready: true})
	broken := errors.New("the namespace can't be read")
	c, err := New(Config{Kubeconfig: api.Kubeconfig(t), Namespace: func(app string) (string, error) {
		switch app {
		case "blog":
			return "blogs", nil
		case "broken":
			return "", broken
		}
		return "default", nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.Endpoints(t.Context())
	if got := ids(all); err != nil || !slices.Equal(got, []string{"blog-web-1", "mail-web-1"}) {
		t.Errorf("of all apps: %q, %v", got, err)
	}
	// An app without pods would have its ports closed.
	if _, err := c.EndpointsOf(t.Context(), "broken"); !errors.Is(err, broken) {
		t.Errorf("of an app whose namespace can't be read: %v", err)
	}
	for app, want := range map[string][]string{"mail": {"mail-web-1"}, "blog": {"blog-web-1"}, "evil": nil} {
		list, err := c.EndpointsOf(t.Context(), app)
		if got := ids(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("of %s: %q, %v", app, got, err)
		}
	}
	api.PutPod(kubetest.Pod{App: "broken", Process: "web", Name: "broken-web-1", IPs: []string{"10.42.0.10"}, Ready: true})
	if _, err := c.Endpoints(t.Context()); !errors.Is(err, broken) {
		t.Errorf("of all apps, one of which has a namespace that can't be read: %v", err)
	}
}

func testPodsAsEndpoints(t *testing.T, api server) {
	status := func(key string, value any) func(kubetest.Object) {
		return func(o kubetest.Object) { o["status"].(map[string]any)[key] = value }
	}
	containers := func(state string, value any) func(kubetest.Object) {
		return status("containerStatuses", []any{map[string]any{"name": "mail-web", "image": "mail:3", "imageID": "", "state": map[string]any{state: value}}})
	}
	sidecar := func(o kubetest.Object) {
		spec := o["spec"].(map[string]any)
		spec["containers"] = append([]any{map[string]any{"name": "proxy", "image": "proxy:1"}}, spec["containers"].([]any)...)
	}
	unnamed := func(o kubetest.Object) {
		o["spec"].(map[string]any)["containers"] = []any{map[string]any{"name": "a", "image": "a:1"}, map[string]any{"name": "b", "image": "b:1"}}
	}
	for _, row := range []struct {
		name             string
		pod              kubetest.Pod
		running, leaving bool
		state, image     string
		direct           string
	}{
		{name: "it is ready", pod: kubetest.Pod{Ready: true}, running: true, state: "running", direct: "[10.42.0.7]"},
		{name: "it is not ready", state: "not ready", direct: "[10.42.0.7]"},
		{name: "it is ready and waits to run", pod: kubetest.Pod{Ready: true, Phase: "Pending"}, state: "pending", direct: "[10.42.0.7]"},
		{name: "it is being deleted", pod: kubetest.Pod{Ready: true, Leaving: true}, leaving: true, state: "terminating", direct: "[10.42.0.7]"},
		{
			name: "it is being deleted and still runs", pod: kubetest.Pod{Ready: true, Leaving: true, Edit: containers("running", map[string]any{})},
			leaving: true, state: "terminating", direct: "[10.42.0.7]",
		},
		{
			name: "it is being deleted and has ended", pod: kubetest.Pod{Leaving: true, Edit: containers("terminated", map[string]any{})},
			leaving: true, state: "terminating", direct: "[]",
		},
		{name: "it crashes", pod: kubetest.Pod{Edit: containers("waiting", map[string]any{"reason": "CrashLoopBackOff"})}, state: "CrashLoopBackOff", direct: "[10.42.0.7]"},
		{
			name: "an init container waits", pod: kubetest.Pod{Phase: "Pending", Edit: status("initContainerStatuses", []any{
				map[string]any{"state": map[string]any{"waiting": map[string]any{"reason": "ImagePullBackOff"}}},
			})}, state: "ImagePullBackOff", direct: "[10.42.0.7]",
		},
		// The network may have given the address to another pod.
		{name: "it has failed", pod: kubetest.Pod{Phase: "Failed"}, state: "failed", direct: "[]"},
		{name: "it was evicted", pod: kubetest.Pod{Phase: "Failed", Edit: status("reason", "Evicted")}, state: "Evicted", direct: "[]"},
		{name: "it has succeeded", pod: kubetest.Pod{Phase: "Succeeded", Ready: true}, state: "succeeded", direct: "[]"},
		{name: "it has only podIP", pod: kubetest.Pod{Ready: true, Edit: status("podIPs", nil)}, running: true, state: "running", direct: "[10.42.0.7]"},
		{
			name: "it has no address", pod: kubetest.Pod{Phase: "Pending", Edit: func(o kubetest.Object) { status("podIPs", nil)(o); status("podIP", "")(o) }},
			state: "pending", direct: "[]",
		},
		{
			name: "it is in its node's network", pod: kubetest.Pod{Ready: true, Edit: func(o kubetest.Object) { o["spec"].(map[string]any)["hostNetwork"] = true }},
			running: true, state: "running", direct: "[]",
		},
		{name: "it has no conditions", pod: kubetest.Pod{Edit: status("conditions", nil)}, state: "not ready", direct: "[10.42.0.7]"},
		{name: "a container stands before the app's", pod: kubetest.Pod{Ready: true, Edit: sidecar}, running: true, state: "running", direct: "[10.42.0.7]"},
		{name: "none is named after the app", pod: kubetest.Pod{Ready: true, Edit: unnamed}, running: true, state: "running", image: "tag:1", direct: "[10.42.0.7]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := row.pod
			p.App, p.Process, p.Name, p.Image, p.IPs = "mail", "web", "mail-web-1", "mail:3", []string{"10.42.0.7"}
			api.PutPod(p)
			defer api.DeletePod(p.Name)
			list, err := newClient(t, api, "").Endpoints(t.Context())
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			image := row.image
			if image == "" {
				image = "tag:3"
			}
			got := list[0]
			if got.Running != row.running || got.Leaving != row.leaving || got.State != row.state || got.Image != image || fmt.Sprint(got.Direct) != row.direct {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// putMany puts so many pods that a list of them has three chunks.
func putMany(api *kubetest.API) (names []string) {
	for i := range 2*maxChunk + 1 {
		names = append(names, fmt.Sprintf("mail-web-%05d", i))
		api.PutPod(kubetest.Pod{App: "mail", Process: "web", Name: names[i], Ready: true})
	}
	return names
}

func TestLongListsComeInChunks(t *testing.T) {
	api := kubetest.New(t)
	want := putMany(api)
	list, err := newClient(t, api, "").Endpoints(t.Context())
	if got := ids(list); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %d of %d pods, %v", len(got), len(want), err)
	}
	chunks := 0
	for _, r := range api.Requests() {
		if strings.Contains(r, "continue=") {
			chunks++
		}
	}
	if chunks != 2 {
		t.Errorf("it asked %d times for a further chunk", chunks)
	}
}

// A list whose version is forgotten while it is read is begun anew, but not without end.
func TestListExpires(t *testing.T) {
	for _, row := range []struct {
		name  string
		times int
		fails bool
	}{{"once", 1, false}, {"again and again", 1000, true}} {
		t.Run(row.name, func(t *testing.T) {
			api := kubetest.New(t)
			want, times := putMany(api), 0
			api.Handle(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.URL.Query().Get("continue") != "" && times < row.times {
					times++
					api.PutPod(kubetest.Pod{App: "mail", Process: "web", Name: want[0], Ready: times%2 == 0})
					api.Expire()
				}
				return false
			})
			list, err := newClient(t, api, "").Endpoints(t.Context())
			if got := ids(list); (err != nil) != row.fails || err == nil && !slices.Equal(got, want) {
				t.Errorf("got %d of %d pods, %v", len(got), len(want), err)
			}
			if row.fails && (!errors.Is(err, errExpired) || times != 2) {
				t.Errorf("it asked %d times: %v", times, err)
			}
		})
	}
}

func TestForeignCluster(t *testing.T) {
	api := kubetest.New(t)
	api.PutPod(kubetest.Pod{App: "mail", Process: "web", Name: "mail-web-1", IPs: []string{"10.42.0.7"}, Ready: true})
	// Every host has the loopback addresses.
	api.Put(kubetest.Node("here", "203.0.113.9", "127.0.0.1", "::1"))
	c := newClient(t, api, "")
	for name, ask := range map[string]func() error{
		"Endpoints":   func() error { _, err := c.Endpoints(t.Context()); return err },
		"EndpointsOf": func() error { _, err := c.EndpointsOf(t.Context(), "mail"); return err },
		"Watch": func() error {
			return c.Watch(t.Context(), func() error { return errors.New("subscribed") }, func(string) {})
		},
	} {
		err := ask()
		if !errors.Is(err, ErrForeign) || errors.Is(err, ErrUnreachable) {
			t.Fatalf("%s: got %v, want ErrForeign", name, err)
		}
		for _, part := range []string{api.URL(), "k3s.yaml", "cluster-add"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q lacks %q", name, err, part)
			}
		}
	}
	if taken, err := c.Taken(t.Context()); len(taken) > 0 || err != nil {
		t.Errorf("a foreign cluster takes %v, %v", taken, err)
	}
	// It becomes a node, which is noticed at once, and asked for only once.
	own, err := hostAddresses()
	if err != nil || len(own) == 0 {
		t.Fatalf("this test needs a host with a network: %v, %v", own, err)
	}
	api.Put(kubetest.Node("another", own[0].String()))
	before := len(api.Requests())
	for range 2 {
		if list, err := c.Endpoints(t.Context()); err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
	}
	if got := api.Requests()[before:]; len(got) != 3 || !strings.HasPrefix(got[0], "/api/v1/nodes") {
		t.Errorf("it asked for %q", got)
	}
}

func TestAddressesOfThisHostAreAsked(t *testing.T) {
	api := kubetest.New(t)
	api.Put(kubetest.Node("here", "2001:db8::1"))
	c := newClient(t, api, "")
	c.addresses = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("2001:db8::1")}, nil }
	if _, err := c.Endpoints(context.Background()); err != nil {
		t.Error(err)
	}
	c = newClient(t, api, "")
	broken := errors.New("netlink is broken")
	c.addresses = func() ([]netip.Addr, error) { return nil, broken }
	if _, err := c.Endpoints(context.Background()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
