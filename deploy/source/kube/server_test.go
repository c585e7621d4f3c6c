package kube

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"dokku-expose/internal/kubernetes"
	"dokku-expose/internal/kubetest"
	"dokku-expose/internal/wait"
)

// server is an API server: the stand-in of kubetest, or a real one.
type server interface {
	Put(kubetest.Object)
	PutPod(kubetest.Pod)
	Delete(kind, namespace, name string)
	DeletePod(name string)
	UID(kind, namespace, name string) string
	Kubeconfig(testing.TB) string
}

// The client takes this for granted of the API: it is so on a real server, and on the stand-in that other tests have.
var onEach = []struct {
	name string
	test func(*testing.T, server)
}{
	{"endpoints", testEndpoints},
	{"only pods of deployments count", testOnlyPodsOfDeploymentsCount},
	{"pods as endpoints", testPodsAsEndpoints},
	{"taken ports", testTaken},
	{"watch", testWatch},
}

func TestStandIn(t *testing.T) {
	for _, test := range onEach {
		t.Run(test.name, func(t *testing.T) { test.test(t, kubetest.New(t)) })
	}
}

func TestRealServer(t *testing.T) {
	api := kubernetes.Start(t)
	for _, test := range onEach {
		t.Run(test.name, func(t *testing.T) {
			defer api.Reset()
			test.test(t, api)
		})
	}
	for _, test := range []struct {
		name string
		test func(*testing.T, *kubernetes.Server)
	}{
		{"a list expires", testRealListExpires},
		{"a watch expires", testRealWatchExpires},
		{"it is lost", testRealServerIsLost},
		{"rights", testRights},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer api.Reset()
			test.test(t, api)
		})
	}
}

// intercepted is called for each request that has the parameter, with how many such requests there were before.
func intercepted(c *Client, parameter string, do func(n int32, r *http.Request)) {
	base, count := c.current.http.Transport, atomic.Int32{}
	c.current.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Query().Has(parameter) {
			do(count.Add(1)-1, r)
		}
		return base.RoundTrip(r)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A list that goes on after the API server was started anew has missed what etcd has forgotten, and is begun anew.
func testRealListExpires(t *testing.T, api *kubernetes.Server) {
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		api.PutPod(web(name, true))
	}
	c := newClient(t, api, "")
	lists, parts := 0, 0
	intercepted(c, "limit", func(n int32, r *http.Request) {
		query := r.URL.Query()
		query.Set("limit", "2")
		r.URL.RawQuery = query.Encode()
		switch {
		case !strings.HasSuffix(r.URL.Path, "/pods"):
		case query.Has("continue"):
			if parts++; parts == 1 {
				api.DeletePod("a")
				restart(api)
			}
		default:
			lists++
		}
	})
	list, err := c.Endpoints(t.Context())
	if got := ids(list); err != nil || !slices.Equal(got, []string{"b", "c", "d", "e"}) {
		t.Errorf("got %q, %v", got, err)
	}
	// The first one came too late.
	if lists != 2 || parts != 2 {
		t.Errorf("it began %d lists and asked %d times for a further chunk, want 2 and 2", lists, parts)
	}
}

// restart starts the API server anew, which has lost all that happened before.
func restart(api *kubernetes.Server) {
	api.Stop()
	api.Compact()
	api.Resume()
}

// A watch that goes on after the API server was started anew has missed what etcd has forgotten.
func testRealWatchExpires(t *testing.T, api *kubernetes.Server) {
	api.PutPod(web("old", true))
	api.PutPod(web("stays", true))
	old, stays := api.UID("Pod", "default", "old"), api.UID("Pod", "default", "stays")
	c := newClient(t, api, "")
	lists := new(atomic.Int32)
	intercepted(c, "watch", func(n int32, r *http.Request) {
		switch n {
		case 0:
			query := r.URL.Query()
			query.Set("timeoutSeconds", "1")
			r.URL.RawQuery = query.Encode()
		case 1:
			api.DeletePod("old")
			restart(api)
			intercepted(c, "limit", func(int32, *http.Request) { lists.Add(1) })
		}
	})
	w := begin(t, c)
	w.want("it has missed events", old, "")
	if n := lists.Load(); n != 1 {
		t.Errorf("it listed the pods %d times anew, want once", n)
	}
	api.PutPod(web("stays", false))
	w.want("it goes on", stays)
}

// A server that is killed or hangs is unreachable. Afterwards it is asked as ever.
func testRealServerIsLost(t *testing.T, api *kubernetes.Server) {
	for name, row := range map[string]struct{ lose, end func() }{"killed": {api.Stop, api.Resume}, "hanging": {api.Hang, api.Unhang}} {
		t.Run(name, func(t *testing.T) {
			api.PutPod(web("old", true))
			old := api.UID("Pod", "default", "old")
			c := newClient(t, api, "")
			c.silence, c.current = callTimeout/30, nil
			w := begin(t, c)
			row.lose()
			if err := w.fails(); !errors.Is(err, ErrUnreachable) {
				t.Errorf("the watch ends with %v", err)
			}
			if name != "hanging" {
				if _, err := c.Endpoints(t.Context()); !errors.Is(err, ErrUnreachable) {
					t.Errorf("the list ends with %v", err)
				}
			}
			row.end()
			if list, err := c.Endpoints(t.Context()); err != nil || len(list) != 1 || !list[0].Running {
				t.Errorf("afterwards: %+v, %v", list, err)
			}
			w = begin(t, c)
			api.PutPod(web("old", false))
			w.want("it goes on", old)
		})
	}
}

// The rights that the messages ask for suffice, and without them the message says so.
func testRights(t *testing.T, api *kubernetes.Server) {
	account := kubernetes.Object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": kubernetes.Object{"namespace": "default", "name": "reader"}}
	role := kubernetes.Object{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": kubernetes.Object{"name": "reader"},
		"rules": []kubernetes.Object{{"apiGroups": []string{""}, "resources": []string{"pods", "services", "nodes"}, "verbs": []string{"list", "watch"}}},
	}
	binding := kubernetes.Object{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": kubernetes.Object{"name": "reader"},
		"roleRef":  kubernetes.Object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
		"subjects": []kubernetes.Object{{"kind": "ServiceAccount", "namespace": "default", "name": "reader"}},
	}
	apply := func(objects ...kubernetes.Object) {
		t.Helper()
		for _, o := range objects {
			if err := api.Apply(o); err != nil {
				t.Fatalf("%s: %v", o["kind"], err)
			}
		}
	}
	apply(account)
	user := api.ServiceAccount("default", "reader")
	c := newClient(t, user, "")
	if _, err := c.Endpoints(t.Context()); err == nil || !strings.Contains(err.Error(), "may list and watch pods, services and nodes") {
		t.Errorf("without rights: %v", err)
	}
	apply(role, binding)
	api.PutPod(web("old", true))
	old := api.UID("Pod", "default", "old")
	// The server's authorizer learns of them by a watch of its own.
	wait.Until(t, "the rights are given", func() bool { return questions["Endpoints"](t.Context(), c) == nil })
	for _, name := range []string{"EndpointsOf", "Taken", "Nodes"} {
		if err := questions[name](t.Context(), c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	w := begin(t, c)
	api.PutPod(web("old", false))
	w.want("it watches", old)
}
