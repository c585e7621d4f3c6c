package kube

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"dokku-expose/internal/kubetest"
)

var daemonSet = Object{
	"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": map[string]any{"name": "expose", "namespace": "expose"},
	"spec": map[string]any{"minReadySeconds": 1},
}

// configMap is the one that tests follow, with a text in it.
func configMap(name, text string) Object {
	return Object{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name, "namespace": "expose"}, "data": map[string]any{"text": text},
	}
}

// namespaced is an API server with the namespace that the objects are in, and a client of it.
func namespaced(t *testing.T) (*kubetest.API, *Client) {
	t.Helper()
	api := kubetest.New(t)
	c := newClient(t, api, "")
	if err := c.Apply(t.Context(), Object{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "expose"}}); err != nil {
		t.Fatal(err)
	}
	return api, c
}

func TestApply(t *testing.T) {
	api := kubetest.New(t)
	c := newClient(t, api, "")
	err := c.Apply(t.Context(), daemonSet)
	for _, part := range []string{"applying the DaemonSet expose/expose", "refuses it", "404", `namespaces "expose" not found`, api.URL()} {
		if err == nil || !strings.Contains(err.Error(), part) || errors.Is(err, ErrUnreachable) {
			t.Errorf("without its namespace: %v lacks %q", err, part)
		}
	}
	if err := c.Apply(t.Context(), Object{"kind": "Secret", "metadata": map[string]any{"name": "x"}}); err == nil || !strings.Contains(err.Error(), `"Secret"`) {
		t.Errorf("another kind: %v", err)
	}

	api, c = namespaced(t)
	for _, text := range []string{"one", "two", "two"} {
		if err := c.Apply(t.Context(), configMap("table", text)); err != nil {
			t.Fatal(err)
		}
		if got := api.Get("ConfigMap", "expose", "table")["data"].(map[string]any)["text"]; got != text {
			t.Errorf("it has %q, want %q", got, text)
		}
	}
	patches := slices.DeleteFunc(api.Requests(), func(uri string) bool { return !strings.Contains(uri, "configmaps") })
	for _, uri := range patches {
		if !strings.Contains(uri, "fieldManager=dokku-expose") || !strings.Contains(uri, "fieldValidation=Strict") || !strings.Contains(uri, "force=true") {
			t.Errorf("it is applied by %s", uri)
		}
	}
	for range 2 { // The second time it is not there any more.
		if err := c.Delete(t.Context(), configMap("table", "")); err != nil {
			t.Error(err)
		}
	}
	if api.Get("ConfigMap", "expose", "table") != nil {
		t.Error("it is not deleted")
	}
}

func TestRolloutOf(t *testing.T) {
	api, c := namespaced(t)
	if err := c.Apply(t.Context(), daemonSet); err != nil {
		t.Fatal(err)
	}
	status := func(observed, desired, updated, ready int) {
		o := api.Get("DaemonSet", "expose", "expose")
		o["status"] = map[string]any{
			"observedGeneration": observed, "desiredNumberScheduled": desired, "updatedNumberScheduled": updated, "numberReady": ready,
		}
		api.Put(o)
	}
	want := func(desired, ready int, waiting ...string) {
		t.Helper()
		r, err := c.RolloutOf(t.Context(), daemonSet)
		if err != nil || r.Desired != desired || r.Ready != ready || !slices.Equal(r.Waiting, waiting) {
			t.Errorf("got %+v, %v, want %d of %d ready, and waiting %q", r, err, ready, desired, waiting)
		}
	}
	want(-1, 0)
	status(1, 2, 1, 2)
	// Of two that are ready one is an old one.
	want(2, 1)
	api.Put(kubetest.Object{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "expose-x", "namespace": "expose", "labels": map[string]any{"app.kubernetes.io/name": "expose"}},
		"spec":     map[string]any{"nodeName": "edge"},
		"status":   map[string]any{"containerStatuses": []any{map[string]any{"state": map[string]any{"waiting": map[string]any{"reason": "ErrImagePull"}}}}},
	})
	want(2, 1, "expose-x on edge: ErrImagePull")
	api.Delete("Pod", "expose", "expose-x")
	status(1, 2, 2, 2)
	want(2, 2)
}

// A ConfigMap is followed from before it is there over the ends of watches, lost versions and changes of others.
func TestFollowConfigMap(t *testing.T) {
	api, c := namespaced(t)
	told, end := make(chan string, 100), make(chan error, 1)
	go func() {
		end <- c.FollowConfigMap(t.Context(), "expose", "table", func(data map[string]string) error {
			told <- data["text"]
			if data["text"] == "wrong" {
				return errors.New("not that one")
			}
			return nil
		})
	}()
	// The same text may be told more than once.
	want := func(step, text string) {
		t.Helper()
		for {
			select {
			case got := <-told:
				if got == text {
					return
				}
			case err := <-end:
				end <- err // It may have told that before.
				if len(told) == 0 {
					t.Fatalf("%s: it has ended: %v", step, err)
				}
			case <-time.After(callTimeout):
				t.Fatalf("%s: %q is not told", step, text)
			}
		}
	}
	put := func(name, text string) {
		t.Helper()
		if err := c.Apply(t.Context(), configMap(name, text)); err != nil {
			t.Fatal(err)
		}
	}
	put("other", "not ours")
	put("table", "one")
	want("it is made", "one")
	put("table", "two")
	want("it is changed", "two")
	api.EndWatches()
	put("table", "three")
	want("a watch has ended", "three")
	api.Expire()
	api.EndWatches()
	put("table", "four")
	want("the version is forgotten", "four")
	if err := c.Delete(t.Context(), configMap("table", "")); err != nil {
		t.Fatal(err)
	}
	put("table", "five")
	want("it is made anew", "five")
	put("table", "wrong")
	want("it is not liked", "wrong")
	if err := <-end; err == nil || !strings.Contains(err.Error(), "not that one") {
		t.Errorf("it ends with %v", err)
	}
	for len(told) > 0 {
		if <-told == "not ours" {
			t.Error("it tells of another one")
		}
	}

	go func() {
		end <- c.FollowConfigMap(t.Context(), "expose", "table", func(data map[string]string) error { told <- data["text"]; return nil })
	}()
	want("it is followed again", "wrong")
	api.Fail(http.StatusServiceUnavailable)
	api.BreakWatches()
	if err := <-end; !errors.Is(err, ErrUnreachable) {
		t.Errorf("with the API server away it ends with %v", err)
	}
}
