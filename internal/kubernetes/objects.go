package kubernetes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"dokku-expose/internal/kubetest"
)

// User is one of an API server's.
type User struct {
	server *Server
	token  string
}

// Error is an answer that is no success.
type Error struct {
	Code            int
	Reason, Message string
}

// Error implements the error interface.
func (e *Error) Error() string { return fmt.Sprintf("%d %s: %s", e.Code, e.Reason, e.Message) }

// is tells whether an error is the answer with a code.
func is(err error, code int) bool {
	answer := &Error{}
	return errors.As(err, &answer) && answer.Code == code
}

// Do makes a request with a body of that type, nil for none, and returns the object that the server answers, nil where it answers none. An
// answer that is no success is an [Error].
func (u User) Do(method, path, contentType string, body any) (Object, error) {
	var coded bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&coded).Encode(body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequest(method, u.server.url+path, &coded)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+u.token)
	if body != nil {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := u.server.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		answer := &Error{}
		if json.Unmarshal(text, answer) != nil {
			answer.Message = string(text)
		}
		answer.Code = response.StatusCode
		return nil, answer
	}
	var o Object
	if json.Unmarshal(text, &o) != nil {
		return nil, nil
	}
	return o, nil
}

const asJSON = "application/json"

// Apply applies an object as `kubectl apply --server-side` does. A field that the server does not know is an error.
func (u User) Apply(o Object) error {
	o = kubetest.Clone(o)
	path, err := u.collection(o)
	if err == nil {
		_, err = u.Do(http.MethodPatch, path+"/"+kubetest.Text(o, "metadata", "name")+"?fieldManager=test&fieldValidation=Strict&force=true", "application/apply-patch+yaml", o)
	}
	return err
}

// Put makes an object as a controller does, with its namespace and its status, or gives the one of that name the metadata and the status. One
// that has a deletionTimestamp is deleted: a pod on a node stays until Delete, which is the kubelet's part.
func (s *Server) Put(o Object) {
	s.t.Helper()
	if err := s.put(kubetest.Clone(o)); err != nil {
		s.t.Errorf("putting %s: %v", kubetest.Text(o, "metadata", "name"), err)
	}
}

func (s *Server) put(o Object) error {
	meta := o["metadata"].(map[string]any)
	leaving, namespace := meta["deletionTimestamp"] != nil, kubetest.Text(o, "metadata", "namespace")
	delete(meta, "deletionTimestamp")
	path, err := s.collection(o)
	if err != nil {
		return err
	}
	if namespace != "" && namespace != "default" {
		if err := s.create("/api/v1/namespaces", Object{"metadata": Object{"name": namespace}}); err != nil && !is(err, http.StatusConflict) {
			return err
		}
	}
	at := path + "/" + kubetest.Text(o, "metadata", "name")
	if err := s.create(path, o); is(err, http.StatusConflict) {
		if err := s.update(at, func(now Object) {
			for _, key := range []string{"labels", "annotations", "ownerReferences"} {
				now["metadata"].(map[string]any)[key] = meta[key]
			}
		}); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if status, _ := o["status"].(map[string]any); len(status) > 0 {
		if err := s.update(at+"/status", func(now Object) { now["status"] = status }); err != nil {
			return err
		}
	}
	if leaving {
		_, err = s.Do(http.MethodDelete, at, "", nil)
	}
	return err
}

func (s *Server) create(path string, o Object) error {
	_, err := s.Do(http.MethodPost, path+"?fieldValidation=Strict", asJSON, o)
	return err
}

func (s *Server) update(path string, change func(Object)) error {
	o, err := s.Do(http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	change(o)
	_, err = s.Do(http.MethodPut, path+"?fieldValidation=Strict", asJSON, o)
	return err
}

// PutPod puts a pod.
func (s *Server) PutPod(p kubetest.Pod) {
	s.t.Helper()
	s.Put(p.Object())
}

// Delete takes away an object of the API's version v1 at once.
func (s *Server) Delete(kind, namespace, name string) {
	s.t.Helper()
	path, err := s.collection(Object{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"namespace": namespace}})
	if err == nil {
		_, err = s.Do(http.MethodDelete, path+"/"+name+"?gracePeriodSeconds=0", "", nil)
	}
	if err != nil {
		s.t.Errorf("deleting %s: %v", name, err)
	}
}

// DeletePod takes away a pod of the namespace "default".
func (s *Server) DeletePod(name string) {
	s.t.Helper()
	s.Delete("Pod", "default", name)
}

// Reset takes away all pods, services and nodes, and puts the node "here" again.
func (s *Server) Reset() {
	s.t.Helper()
	for _, kind := range []string{"Pod", "Service", "Node"} {
		list, err := s.Do(http.MethodGet, "/api/v1/"+strings.ToLower(kind)+"s", "", nil)
		s.must(err)
		for _, o := range list["items"].([]any) {
			name := kubetest.Text(o.(map[string]any), "metadata", "name")
			if name != "kubernetes" { // the API server's own service
				s.Delete(kind, kubetest.Text(o.(map[string]any), "metadata", "namespace"), name)
			}
		}
	}
	s.Put(kubetest.Node("here", kubetest.HostAddresses(s.t)...))
}

// UID is that of an object of the API's version v1, which must be there.
func (s *Server) UID(kind, namespace, name string) string {
	s.t.Helper()
	path, err := s.collection(Object{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"namespace": namespace}})
	s.must(err)
	o, err := s.Do(http.MethodGet, path+"/"+name, "", nil)
	s.must(err)
	return kubetest.Text(o, "metadata", "uid")
}

// ServiceAccount is a service account, which must be there, as a user.
func (s *Server) ServiceAccount(namespace, name string) User {
	s.t.Helper()
	request, err := s.Do(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+name+"/token", asJSON, Object{"spec": Object{}})
	s.must(err)
	return User{server: s, token: kubetest.Text(request, "status", "token")}
}

// collection is the path of the objects of the same kind and namespace.
func (u User) collection(o Object) (string, error) {
	version := kubetest.Text(o, "apiVersion")
	group := "/apis/" + version
	if !strings.Contains(version, "/") {
		group = "/api/" + version
	}
	resources, err := u.server.discover(group)
	if err != nil {
		return "", err
	}
	for _, r := range resources {
		switch {
		case r.Kind != o["kind"] || strings.Contains(r.Name, "/"):
		case r.Namespaced:
			return group + "/namespaces/" + kubetest.Text(o, "metadata", "namespace") + "/" + r.Name, nil
		default:
			return group + "/" + r.Name, nil
		}
	}
	return "", fmt.Errorf("the server has no kind %q in %s", o["kind"], version)
}

// resource is what the server tells of a kind.
type resource struct {
	Name, Kind string
	Namespaced bool
}

// discover asks for the kinds of a group, once.
func (s *Server) discover(group string) ([]resource, error) {
	if known, ok := s.groups.Load(group); ok {
		return known.([]resource), nil
	}
	var list struct{ Resources []resource }
	o, err := s.Do(http.MethodGet, group, "", nil)
	if err != nil {
		return nil, err
	}
	coded, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(coded, &list)
	}
	if err == nil {
		s.groups.Store(group, list.Resources)
	}
	return list.Resources, err
}
