package kubetest

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
)

// OnApply has do called with each object that a request has applied and changed by that, as a controller would be told. It is called before
// the request is answered.
func (a *API) OnApply(do func(Object)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.applied = do
}

// Get returns an object, nil when there is none. A cluster-wide one has the namespace "".
func (a *API) Get(kind, namespace, name string) Object {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o := a.objects[kind+"/"+namespace+"/"+name]; o != nil {
		return Clone(o)
	}
	return nil
}

// named returns the key of the one object that a path names; a path of a list names none.
func named(path string) (key string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return "", false
	}
	namespace := ""
	if parts[0] == "namespaces" && len(parts) > 2 {
		namespace, parts = parts[1], parts[2:]
	}
	if len(parts) != 2 || kinds[parts[0]] == "" {
		return "", false
	}
	return kinds[parts[0]] + "/" + namespace + "/" + parts[1], true
}

// answerObject answers a request for one object.
func (a *API) answerObject(w http.ResponseWriter, r *http.Request, key string) {
	a.mu.Lock()
	before := a.objects[key]
	a.mu.Unlock()
	switch {
	case r.Method == http.MethodPatch:
		a.apply(w, r, before)
	case before == nil:
		refuse(w, http.StatusNotFound, key+" not found")
	case r.Method == http.MethodDelete:
		parts := strings.SplitN(key, "/", 3)
		a.Delete(parts[0], parts[1], parts[2])
		write(w, http.StatusOK, statusOf(http.StatusOK, ""))
	case r.Method == http.MethodGet:
		write(w, http.StatusOK, before)
	default:
		refuse(w, http.StatusMethodNotAllowed, "the test server does not do that")
	}
}

// apply makes an object, or changes the one that is there. It keeps the status, which is a controller's.
func (a *API) apply(w http.ResponseWriter, r *http.Request, before Object) {
	var o Object
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if namespace := Text(o, "metadata", "namespace"); namespace != "" && a.Get("Namespace", "", namespace) == nil {
		refuse(w, http.StatusNotFound, "namespaces \""+namespace+"\" not found")
		return
	}
	generation := 1
	if before != nil {
		meta := Clone(before)["metadata"].(map[string]any)
		if n, ok := meta["generation"].(float64); ok {
			generation = int(n)
		}
		if !reflect.DeepEqual(before["spec"], o["spec"]) {
			generation++
		}
		o["status"] = before["status"]
	}
	o["metadata"].(map[string]any)["generation"] = generation
	changed := before == nil || !reflect.DeepEqual(before["spec"], o["spec"]) || !reflect.DeepEqual(before["data"], o["data"])
	if changed {
		a.Put(o)
	}
	a.mu.Lock()
	applied := a.applied
	a.mu.Unlock()
	if changed && applied != nil {
		applied(Clone(o))
	}
	write(w, http.StatusOK, o)
}
