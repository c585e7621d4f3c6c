// Package kubetest is a Kubernetes API server for tests: it lists and watches nodes, pods and services over TLS and HTTP/2, with the
// resource versions, chunks, bookmarks and credentials of a real one. It runs no containers: a test puts and deletes objects.
//
// It can fail as real ones do: it ends and breaks watches, hangs, forgets old versions, refuses, and lies.
package kubetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Object is one of Kubernetes', as decoded from JSON.
type Object map[string]any

// The kinds that the API has, by the last part of their path.
var kinds = map[string]string{
	"pods": "Pod", "services": "Service", "nodes": "Node", "namespaces": "Namespace", "serviceaccounts": "ServiceAccount", "configmaps": "ConfigMap",
	"clusterroles": "ClusterRole", "clusterrolebindings": "ClusterRoleBinding", "roles": "Role", "rolebindings": "RoleBinding",
	"daemonsets": "DaemonSet",
}

// API is one API server. It may be used by several goroutines at once.
type API struct {
	// Token is the one of the kubeconfig's user "token", Password that of "basic", whose name is admin.
	Token, Password string

	t      testing.TB
	server *httptest.Server
	gate   *gate
	closed chan struct{}

	mu sync.Mutex
	// certificate and key are the client's, in PEM format, raw is the former in DER format.
	certificate, key, raw []byte
	version               int
	// oldest is the first version from which a watch can go on.
	oldest  int
	objects map[string]Object
	history []change
	// more is closed when there are changes or watches are to end.
	more chan struct{}
	// ends counts how often watches were ended, breaks how often they were broken.
	ends, breaks int
	// watches are those that are open; each is closed at its end.
	watches  map[chan struct{}]bool
	chunks   map[string]chunk
	handle   func(http.ResponseWriter, *http.Request) bool
	requests []string
	applied  func(Object)
}

// change is one of an object; before is nil for a new one, and after for one that was deleted. A bookmark has neither.
type change struct {
	version       int
	kind          string
	before, after Object
}

// chunk is what is left of a list.
type chunk struct {
	version int
	items   []Object
}

// New starts an API server, which ends with the test. Its only node is named "here" and has the addresses of this host.
func New(t testing.TB) *API {
	t.Helper()
	a := &API{
		Token: "token-of-the-test", Password: "password-of-the-test",
		t: t, closed: make(chan struct{}), more: make(chan struct{}), version: 100, oldest: 100,
		objects: make(map[string]Object), watches: make(map[chan struct{}]bool), chunks: make(map[string]chunk),
	}
	a.RotateCertificate()
	a.serve()
	a.Put(Node("here", HostAddresses(t)...))
	return a
}

// URL is the API server's address.
func (a *API) URL() string { return a.server.URL }

// Put makes an object, or replaces the one of its kind, namespace and name. As on a real server a new pod has no status at first, and an object
// that is the same is no change.
func (a *API) Put(o Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o = Clone(o)
	before := a.objects[key(o)]
	meta := o["metadata"].(map[string]any)
	if meta["uid"] == nil && before != nil {
		meta["uid"] = Text(before, "metadata", "uid")
	}
	if meta["uid"] == nil {
		meta["uid"] = fmt.Sprintf("%s-%d", meta["name"], a.version+1)
	}
	if before == nil && Text(o, "kind") == "Pod" {
		created := Clone(o)
		created["status"] = map[string]any{"phase": "Pending"}
		a.store(created)
	}
	a.store(o)
}

// store notes an object. The caller holds the lock.
func (a *API) store(o Object) {
	before := a.objects[key(o)]
	if before != nil {
		o["metadata"].(map[string]any)["resourceVersion"] = Text(before, "metadata", "resourceVersion")
		if reflect.DeepEqual(o, before) {
			return
		}
	}
	a.change(Text(o, "kind"), before, o)
	a.objects[key(o)] = o
}

// Delete takes away an object, which must be there. A node's namespace is "".
func (a *API) Delete(kind, namespace, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := kind + "/" + namespace + "/" + name
	if a.objects[id] == nil {
		panic("kubetest: there is no " + id)
	}
	if kind == "Pod" {
		leaving := Clone(a.objects[id])
		leaving["metadata"].(map[string]any)["deletionTimestamp"] = "2026-01-01T00:01:00Z"
		a.store(leaving)
	}
	before := a.objects[id]
	delete(a.objects, id)
	a.change(kind, before, nil)
}

// UID is that of an object, which must be there.
func (a *API) UID(kind, namespace, name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Text(a.objects[kind+"/"+namespace+"/"+name], "metadata", "uid")
}

// Bookmark sends a bookmark to every watch.
func (a *API) Bookmark() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.change("", nil, nil)
}

// Expire forgets all versions before the present one. Watches and lists that go on from there are told so, open watches that have
// missed nothing are not.
func (a *API) Expire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.history, a.oldest = nil, a.version
}

// EndWatches ends all watches as a server does when their time is over, and waits until they have been sent all there is. The server
// must not hang.
func (a *API) EndWatches() {
	a.mu.Lock()
	a.ends++
	a.wake()
	watches := slices.Collect(maps.Keys(a.watches))
	a.mu.Unlock()
	for _, ended := range watches {
		<-ended
	}
}

// BreakWatches breaks all watches in the middle.
func (a *API) BreakWatches() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.breaks++
	a.wake()
}

// Watches is how many watches there are now.
func (a *API) Watches() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.watches)
}

// Hang stops the server as SIGSTOP would: connections are accepted by the kernel, and nothing is answered.
func (a *API) Hang() { a.gate.close() }

// Resume ends Hang.
func (a *API) Resume() { a.gate.open() }

// Handle gives each request to f first, nil for nobody. f tells whether it has answered it.
func (a *API) Handle(f func(http.ResponseWriter, *http.Request) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handle = f
}

// Fail answers every request with a status, 0 for none any more.
func (a *API) Fail(code int) {
	if code == 0 {
		a.Handle(nil)
		return
	}
	a.Handle(func(w http.ResponseWriter, _ *http.Request) bool {
		refuse(w, code, "the test wants it")
		return true
	})
}

// Requests are the paths with queries of all requests so far.
func (a *API) Requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

// change notes one. The caller holds the lock.
func (a *API) change(kind string, before, after Object) {
	a.version++
	if after != nil {
		after["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(a.version)
	}
	a.history = append(a.history, change{version: a.version, kind: kind, before: before, after: after})
	a.wake()
}

// wake lets watches look. The caller holds the lock.
func (a *API) wake() {
	close(a.more)
	a.more = make(chan struct{})
}

// selection is what a request asks for.
type selection struct {
	kind, namespace, labels, fields string
}

func (s selection) has(o Object) bool {
	if o == nil || Text(o, "kind") != s.kind || s.namespace != "" && Text(o, "metadata", "namespace") != s.namespace {
		return false
	}
	labels, _ := o["metadata"].(map[string]any)["labels"].(map[string]any)
	for term := range strings.SplitSeq(s.labels, ",") {
		name, want, equal := strings.Cut(term, "=")
		if value, there := labels[name]; term != "" && (!there || equal && value != want) {
			return false
		}
	}
	for term := range strings.SplitSeq(s.fields, ",") {
		field, want, _ := strings.Cut(term, "=")
		field, unequal := strings.CutSuffix(field, "!")
		if term != "" && (Text(o, strings.Split(field, ".")...) == want) == unequal {
			return false
		}
	}
	return true
}

// list returns what is selected, ordered by namespace and name. The caller holds the lock.
func (a *API) list(s selection) []Object {
	var found []Object
	for _, id := range slices.Sorted(maps.Keys(a.objects)) {
		if s.has(a.objects[id]) {
			found = append(found, a.objects[id])
		}
	}
	return found
}

func key(o Object) string {
	return Text(o, "kind") + "/" + Text(o, "metadata", "namespace") + "/" + Text(o, "metadata", "name")
}

// Text is the string at a path, "" where there is none.
func Text(o Object, path ...string) string {
	for _, name := range path[:len(path)-1] {
		next, _ := o[name].(map[string]any)
		o = next
	}
	value, _ := o[path[len(path)-1]].(string)
	return value
}

// Clone makes o independent of what it was made of.
func Clone(o Object) (c Object) {
	coded, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(coded, &c)
	}
	if err != nil {
		panic(err)
	}
	return c
}
