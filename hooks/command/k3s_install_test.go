package command

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy/source/kube"
	"dokku-expose/hooks/host"
	"dokku-expose/internal/kubernetes"
	"dokku-expose/internal/wait"
)

// The manifest names the nodes that are entry hosts, or the one that is not, and its last object is the DaemonSet.
func TestManifest(t *testing.T) {
	for _, row := range []struct {
		own   string
		nodes []string
		want  string
	}{
		{"", nil, `null`},
		{"dokku", nil, `[{"matchFields":[{"key":"metadata.name","operator":"NotIn","values":["dokku"]}]}]`},
		{"dokku", []string{"1", "edge"}, `[{"matchFields":[{"key":"metadata.name","operator":"In","values":["1"]}]},{"matchFields":[{"key":"metadata.name","operator":"In","values":["edge"]}]}]`},
	} {
		const image = `registry.example.com:5000/expose@sha256:0123`
		text, objects, err := manifest(host.Entries{Image: image, Nodes: row.nodes}, row.own)
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, o := range objects {
			kind, _, _ := strings.Cut(o.String(), " ")
			kinds = append(kinds, kind)
		}
		if got := strings.Join(kinds, " "); got != "Namespace ServiceAccount ClusterRole ClusterRoleBinding Role RoleBinding DaemonSet" {
			t.Errorf("it has %s", got)
		}
		pod := child(objects[len(objects)-1], "spec", "template", "spec")
		terms, err := json.Marshal(child(pod, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")["nodeSelectorTerms"])
		if err != nil || string(terms) != row.want {
			t.Errorf("on %q with %q: %s, %v, want %s", row.own, row.nodes, terms, err, row.want)
		}
		if got := pod["containers"].([]any)[0].(map[string]any)["image"]; got != image {
			t.Errorf("the image is %v", got)
		}
		if !strings.Contains(text, image) {
			t.Error("its text is another one")
		}
	}
}

// A real API server takes the manifest, twice, and gives the daemons the rights that they need, and no others.
func TestManifestOnRealServer(t *testing.T) {
	api := kubernetes.Start(t)
	_, objects, err := manifest(host.Entries{Image: "expose:1", Nodes: []string{"edge"}}, "")
	if err != nil {
		t.Fatal(err)
	}
	// The ConfigMap is as host.Publish writes it.
	table := kube.Object{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": host.EntryName, "namespace": host.EntryName},
		"data": map[string]any{host.TableKey: "{}"},
	}
	client := func(kubeconfig string) *kube.Client {
		t.Helper()
		c, err := kube.New(kube.Config{Kubeconfig: kubeconfig, Node: "edge", Namespace: func(string) (string, error) { return "default", nil }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	admin := client(api.Kubeconfig(t))
	for range 2 {
		for _, o := range append(objects, table) {
			if err := admin.Apply(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r, err := admin.RolloutOf(t.Context(), objects[len(objects)-1]); r.Desired != -1 || err != nil {
		t.Errorf("of a DaemonSet that no controller has seen the rollout is %+v, %v", r, err)
	}

	account := api.ServiceAccount(host.EntryName, host.EntryName)
	daemon := client(account.Kubeconfig(t))
	// The server's authorizer learns of the rights by a watch of its own.
	wait.Until(t, "the rights are given", func() bool {
		_, err := daemon.Endpoints(t.Context())
		return err == nil
	})
	told := errors.New("told")
	wait.Until(t, "the table is told", func() bool {
		return errors.Is(daemon.FollowConfigMap(t.Context(), host.EntryName, host.EntryName, func(data map[string]string) error {
			if data[host.TableKey] != "{}" {
				t.Errorf("the table is %q", data)
			}
			return told
		}), told)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = daemon.Watch(ctx, func() error { return told }, func(string) {})
	if !errors.Is(err, told) {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"changes the table":                    daemon.Apply(t.Context(), table),
		"deletes the DaemonSet":                daemon.Delete(t.Context(), objects[len(objects)-1]),
		"reads another ConfigMap":              daemon.FollowConfigMap(t.Context(), "kube-system", host.EntryName, func(map[string]string) error { return nil }),
		"reads all ConfigMaps":                 does(account, "/api/v1/configmaps"),
		"reads secrets":                        does(account, "/api/v1/secrets"),
		"reads nodes":                          does(account, "/api/v1/nodes"),
		"reads its own namespace's ConfigMaps": does(account, "/api/v1/namespaces/"+host.EntryName+"/configmaps"),
	} {
		if err == nil || !strings.Contains(err.Error(), "forbidden") && !strings.Contains(err.Error(), "Forbidden") {
			t.Errorf("the daemon %s: %v", what, err)
		}
	}
}

// does has a user read a path.
func does(u kubernetes.User, path string) error {
	_, err := u.Do(http.MethodGet, path, "", nil)
	return err
}

func child(o kube.Object, keys ...string) kube.Object {
	for _, key := range keys {
		o, _ = o[key].(map[string]any)
	}
	return o
}
