package command

import (
	"encoding/json"
	"strings"
	"testing"

	"dokku-expose/deploy/source/kube"
	"dokku-expose/hooks/host"
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

func child(o kube.Object, keys ...string) kube.Object {
	for _, key := range keys {
		o, _ = o[key].(map[string]any)
	}
	return o
}
