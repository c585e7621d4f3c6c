package kube

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"dokku-expose/deploy"
)

// The labels and the annotation that the chart of Dokku's scheduler-k3s gives to pods and services of apps.
const (
	labelApp          = "app.kubernetes.io/part-of"
	labelProcess      = "app.kubernetes.io/name"
	labelInstance     = "app.kubernetes.io/instance"
	annotationManaged = "dokku.com/managed"

	// ofAnyApp selects what has the labels.
	ofAnyApp = labelApp + "," + labelProcess + "," + labelInstance

	allPods = "/api/v1/pods"
)

// The phases of a pod whose containers have ended for good.
const succeeded, failed = "Succeeded", "Failed"

// pod is the object of a pod.
type pod struct {
	Metadata object
	Spec     struct {
		NodeName                   string
		HostNetwork                bool
		Containers, InitContainers []container
	}
	Status struct {
		Phase, Reason, PodIP                     string
		PodIPs                                   []struct{ IP string }
		Conditions                               []struct{ Type, Status string }
		ContainerStatuses, InitContainerStatuses []containerStatus
	}
}

type container struct {
	Name, Image string
	Ports       []struct {
		HostPort         uint16
		HostIP, Protocol string
	}
}

type containerStatus struct {
	State struct {
		Running *struct{}
		Waiting *struct{ Reason string }
	}
}

// Endpoints implements [deploy.Source]. An error that the API server does not answer wraps [ErrUnreachable], the one that this host does
// not reach the pods wraps [ErrForeign].
func (c *Client) Endpoints(ctx context.Context) ([]deploy.Endpoint, error) {
	return c.endpoints(ctx, podsOfApps("listing the pods of all apps"))
}

// EndpointsOf is Endpoints for a single app.
func (c *Client) EndpointsOf(ctx context.Context, app string) ([]deploy.Endpoint, error) {
	namespace, err := c.config.Namespace(app)
	if err != nil {
		return nil, err
	}
	return c.endpoints(ctx, question{
		what:  "listing the pods of " + app,
		path:  "/api/v1/namespaces/" + url.PathEscape(namespace) + "/pods",
		kind:  "Pod",
		query: url.Values{"labelSelector": {labelApp + "=" + app + "," + labelProcess + "," + labelInstance}},
	})
}

func (c *Client) endpoints(ctx context.Context, q question) ([]deploy.Endpoint, error) {
	s, err := c.session()
	if err != nil {
		return nil, err
	}
	if _, _, err := c.onNode(ctx, s); err != nil {
		return nil, err
	}
	pods, _, err := list[pod](ctx, c, s, q)
	if err != nil {
		return nil, err
	}
	endpoints := make([]deploy.Endpoint, 0, len(pods))
	for i := range pods {
		p := &pods[i]
		serves, err := c.serves(p)
		if err != nil {
			return nil, err
		}
		if serves {
			endpoints = append(endpoints, neutral(p))
		}
	}
	return endpoints, nil
}

// app is the app that Dokku made an object for, or "": anybody can give the same labels to something else.
func (c *Client) app(o *object) (string, error) {
	app := o.Labels[labelApp]
	if app == "" || o.Annotations[annotationManaged] != "true" || o.Labels[labelInstance] != app+"-"+o.Labels[labelProcess] {
		return "", nil
	}
	namespace, err := c.config.Namespace(app)
	if o.Namespace != namespace || err != nil {
		return "", err
	}
	return app, nil
}

// serves tells whether a pod is one of an app's deployment. Those of `dokku run` and of cron tasks have the same labels, but a Job.
func (c *Client) serves(p *pod) (bool, error) {
	if app, err := c.app(&p.Metadata); app == "" || err != nil {
		return false, err
	}
	for _, owner := range p.Metadata.OwnerReferences {
		if owner.Controller {
			return owner.Kind == "ReplicaSet", nil
		}
	}
	return false, nil
}

// neutral turns the API's view of a pod into the model's.
func neutral(p *pod) deploy.Endpoint {
	m := &p.Metadata
	return deploy.Endpoint{
		ID:          m.UID,
		App:         m.Labels[labelApp],
		Process:     m.Labels[labelProcess],
		Dyno:        p.place(),
		Image:       tagOf(p.image()),
		Running:     p.running(),
		Leaving:     p.leaving(),
		State:       p.state(),
		NetworkMode: p.network(),
		Pod:         true,
		Direct:      p.addresses(),
	}
}

// place is the name of the pod and, once it has one, of its node.
func (p *pod) place() string {
	if p.Spec.NodeName == "" {
		return p.Metadata.Name
	}
	return p.Metadata.Name + "@" + p.Spec.NodeName
}

func (p *pod) network() string {
	if p.Spec.HostNetwork {
		return "host"
	}
	return "pod"
}

// image is that of the app's container, which others may stand beside.
func (p *pod) image() string {
	app := p.Metadata.Labels[labelInstance]
	for _, c := range p.Spec.Containers {
		if c.Name == app {
			return c.Image
		}
	}
	if len(p.Spec.Containers) == 0 {
		return ""
	}
	return p.Spec.Containers[0].Image
}

func (p *pod) leaving() bool { return p.Metadata.DeletionTimestamp != "" }

// ended tells whether the pod's containers have ended for good.
func (p *pod) ended() bool { return p.Status.Phase == succeeded || p.Status.Phase == failed }

func (p *pod) running() bool {
	return p.Status.Phase == "Running" && p.ready() && !p.leaving()
}

func (p *pod) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// state says in a word or two why the pod does not run, or that it does.
func (p *pod) state() string {
	switch {
	case p.leaving():
		return "terminating"
	case p.running():
		return "running"
	case p.ended() && p.Status.Reason != "":
		return p.Status.Reason
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if c.State.Waiting != nil && c.State.Waiting.Reason != "" {
			return c.State.Waiting.Reason
		}
	}
	if p.Status.Phase == "Running" {
		return "not ready"
	}
	return strings.ToLower(p.Status.Phase)
}

// addresses are the pod's own. One in its node's network has none, and neither has one that has ended: the network gives its address to the
// next pod while the object still names it.
func (p *pod) addresses() []netip.Addr {
	runs := func(c containerStatus) bool { return c.State.Running != nil }
	left := p.leaving() && len(p.Status.ContainerStatuses) > 0 && !slices.ContainsFunc(p.Status.ContainerStatuses, runs)
	if p.Spec.HostNetwork || p.ended() || left {
		return nil
	}
	texts := make([]string, 0, 2)
	for _, ip := range p.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	if len(texts) == 0 {
		texts = append(texts, p.Status.PodIP)
	}
	var addrs []netip.Addr
	for _, text := range texts {
		// A pod that was not started yet has "" here.
		if addr, err := netip.ParseAddr(text); err == nil {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}
