package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Object is one of Kubernetes' in JSON's types, as a manifest describes it.
type Object map[string]any

// text is a string in the object, "" where there is none.
func (o Object) text(keys ...string) string {
	value := any(map[string]any(o))
	for _, key := range keys {
		m, _ := value.(map[string]any)
		value = m[key]
	}
	s, _ := value.(string)
	return s
}

// String names the object: "DaemonSet dokku-expose/dokku-expose".
func (o Object) String() string {
	name := o.text("metadata", "name")
	if namespace := o.text("metadata", "namespace"); namespace != "" {
		name = namespace + "/" + name
	}
	return o.text("kind") + " " + name
}

// fieldManager is the name under which the API server keeps what Apply has set.
const fieldManager = "dokku-expose"

// resources are the paths of the kinds that can be applied, before the namespace and after it; one without a namespace has no second part.
var resources = map[string][2]string{
	"Namespace":          {"/api/v1/namespaces"},
	"ServiceAccount":     {"/api/v1", "serviceaccounts"},
	"ConfigMap":          {"/api/v1", "configmaps"},
	"ClusterRole":        {"/apis/rbac.authorization.k8s.io/v1/clusterroles"},
	"ClusterRoleBinding": {"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"},
	"Role":               {"/apis/rbac.authorization.k8s.io/v1", "roles"},
	"RoleBinding":        {"/apis/rbac.authorization.k8s.io/v1", "rolebindings"},
	"DaemonSet":          {"/apis/apps/v1", "daemonsets"},
}

// pathOf is the path of an object.
func pathOf(kind, namespace, name string) (string, error) {
	r, known := resources[kind]
	switch {
	case !known:
		return "", fmt.Errorf("objects of the kind %q can't be applied", kind)
	case r[1] == "":
		return url.JoinPath(r[0], name)
	}
	return url.JoinPath(r[0], "namespaces", namespace, r[1], name)
}

// Apply makes an object as it is described, or changes the one that is there (server-side apply). Fields that are not described stay as
// somebody else has set them.
func (c *Client) Apply(ctx context.Context, o Object) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	query := url.Values{"fieldManager": {fieldManager}, "force": {"true"}, "fieldValidation": {"Strict"}}
	return c.change(ctx, "applying the "+o.String(), http.MethodPatch, o, query, "application/apply-patch+yaml", body, nil)
}

// Delete takes an object away. One that is not there is no error.
func (c *Client) Delete(ctx context.Context, o Object) error {
	err := c.change(ctx, "deleting the "+o.String(), http.MethodDelete, o, nil, "", nil, nil)
	if errors.Is(err, ErrMissing) {
		return nil
	}
	return err
}

// change asks for one object, and decodes the answer into a value that is not nil.
func (c *Client) change(ctx context.Context, what, method string, o Object, query url.Values, contentType string, body []byte, into any) error {
	path, err := pathOf(o.text("kind"), o.text("metadata", "namespace"), o.text("metadata", "name"))
	if err != nil {
		return err
	}
	s, err := c.session()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.bound.Load()))
	defer cancel()
	response, err := s.send(ctx, method, path, query, contentType, body)
	var answer *status
	switch {
	case errors.As(err, &answer) && answer.Reason != "" && slices.Contains(refusals, answer.Code):
		return fmt.Errorf("%s: the Kubernetes API server at %s (%s) refuses it: %w", what, s.server.Redacted(), s.file, err)
	case errors.As(err, &answer) && answer.Code == http.StatusForbidden:
		return fmt.Errorf("%s: the Kubernetes API server at %s (%s) does not let %s do that: %w: use the file of a user with the role of an administrator "+
			"(/etc/rancher/k3s/k3s.yaml)", what, s.server.Redacted(), s.file, s.as, err)
	case err != nil:
		return s.failed(ctx, what, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(&bounded{body: response.Body, left: maxEvent})
	if err != nil {
		return s.failed(ctx, what, unreadable(err))
	}
	if into == nil {
		return nil
	}
	return s.failed(ctx, what, json.Unmarshal(text, into))
}

// refusals are the codes with which an API server refuses a change that it has understood.
var refusals = []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity}

// Rollout is how far a DaemonSet is.
type Rollout struct {
	// Desired is how many nodes are to have a pod, Ready how many have one of the present template that is ready.
	Desired, Ready int
	// Waiting says of pods that do not start which ones, and why: "dokku-expose-x2x4z on node1: ErrImagePull".
	Waiting []string
}

// RolloutOf tells how far a DaemonSet is, whose pods have its name as the label app.kubernetes.io/name. The error wraps [ErrMissing] when
// there is none.
func (c *Client) RolloutOf(ctx context.Context, o Object) (Rollout, error) {
	var set struct {
		Metadata struct{ Generation int }
		Status   struct{ ObservedGeneration, DesiredNumberScheduled, UpdatedNumberScheduled, NumberReady int }
	}
	if err := c.change(ctx, "reading the "+o.String(), http.MethodGet, o, nil, "", nil, &set); err != nil {
		return Rollout{}, err
	}
	if set.Status.ObservedGeneration < set.Metadata.Generation {
		return Rollout{Desired: -1}, nil // Its controller has not looked at it yet.
	}
	r := Rollout{Desired: set.Status.DesiredNumberScheduled, Ready: min(set.Status.UpdatedNumberScheduled, set.Status.NumberReady)}
	s, err := c.session()
	if err != nil {
		return r, err
	}
	name := o.text("metadata", "name")
	pods, _, err := list[pod](ctx, c, s, question{
		what: "listing the pods of the " + o.String(), path: "/api/v1/namespaces/" + o.text("metadata", "namespace") + "/pods", kind: "Pod",
		query: url.Values{"labelSelector": {labelProcess + "=" + name}},
	})
	for i := range pods {
		for _, state := range pods[i].Status.ContainerStatuses {
			if waiting := state.State.Waiting; waiting != nil {
				r.Waiting = append(r.Waiting, fmt.Sprintf("%s on %s: %s", pods[i].Metadata.Name, pods[i].Spec.NodeName, waiting.Reason))
			}
		}
	}
	return r, err
}

// FollowConfigMap calls changed with the data of a ConfigMap, at first and whenever the ConfigMap changes. One that is not there is waited
// for. It returns when ctx ends, with the error of changed, or when the API server does not answer any more; that error wraps
// [ErrUnreachable].
func (c *Client) FollowConfigMap(ctx context.Context, namespace, name string, changed func(data map[string]string) error) error {
	q := question{
		what: "watching the ConfigMap " + namespace + "/" + name, path: "/api/v1/namespaces/" + namespace + "/configmaps", kind: "ConfigMap",
		query: url.Values{"fieldSelector": {"metadata.name=" + name}},
	}
	type configMap struct {
		Metadata object
		Data     map[string]string
	}
	for {
		pause := time.After(watchPause)
		s, err := c.session()
		if err != nil {
			return err
		}
		items, version, err := list[configMap](ctx, c, s, q)
		for i := range items {
			err = errors.Join(err, changed(items[i].Data))
		}
		if err == nil {
			_, err = c.stream(ctx, s, q, version, func() error { return nil }, func(event string, text json.RawMessage) error {
				var m configMap
				if event != "ADDED" && event != "MODIFIED" {
					return nil
				}
				if err := json.Unmarshal(text, &m); err != nil {
					return err
				}
				if err := changed(m.Data); err != nil {
					return own{err}
				}
				return nil
			})
		}
		if err == nil {
			err = over(ctx, pause)
		}
		if err != nil {
			return err
		}
	}
}
