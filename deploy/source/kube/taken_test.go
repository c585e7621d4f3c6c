package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"dokku-expose/internal/kubetest"
)

func testTaken(t *testing.T, api server) {
	api.Put(kubetest.Node("here", "192.0.2.1"))
	port := func(of ...any) kubetest.Object {
		o := kubetest.Object{}
		for i := 0; i < len(of); i += 2 {
			o[of[i].(string)] = of[i+1]
		}
		return o
	}
	spec := func(kind string, ports ...kubetest.Object) kubetest.Object {
		for i, port := range ports {
			port["name"] = fmt.Sprint("port-", i)
		}
		o := kubetest.Object{"type": kind, "ports": ports}
		if kind == "LoadBalancer" {
			// The test could not tell which it would get.
			o["allocateLoadBalancerNodePorts"] = false
		}
		return o
	}
	at := func(ingress ...kubetest.Object) kubetest.Object {
		return kubetest.Object{"loadBalancer": kubetest.Object{"ingress": ingress}}
	}
	api.Put(kubetest.Service("kube-system", "traefik", spec("LoadBalancer",
		port("port", 443, "nodePort", 30443, "protocol", "TCP"), port("port", 80, "protocol", "TCP"), port("port", 443, "protocol", "UDP"), port("port", 9, "protocol", "SCTP")),
		at(port("ip", "203.0.113.9"), port("ip", "192.0.2.1"))))
	api.Put(kubetest.Service("a", "pending", spec("LoadBalancer", port("port", 81)), kubetest.Object{}))
	api.Put(kubetest.Service("a", "named", spec("LoadBalancer", port("port", 82)), at(port("hostname", "lb.example.com"))))
	api.Put(kubetest.Service("a", "foreign", spec("LoadBalancer", port("port", 83, "nodePort", 30083)), at(port("ip", "203.0.113.9"))))
	api.Put(kubetest.Service("a", "node", spec("NodePort", port("port", 84, "nodePort", 30084, "protocol", "UDP")), kubetest.Object{}))
	api.Put(kubetest.Service("a", "inner", spec("ClusterIP", port("port", 85)), kubetest.Object{}))
	external := spec("ClusterIP", port("port", 86))
	external["externalIPs"] = []string{"203.0.113.9", "192.0.2.1", "2001:db8::1"}
	api.Put(kubetest.Service("a", "external", external, kubetest.Object{}))
	ofMail := kubetest.Service("default", "mail-web", spec("LoadBalancer", port("port", 25)), kubetest.Object{})
	mail := kubetest.Pod{App: "mail", Process: "web"}.Object()["metadata"].(map[string]any)
	ofMail["metadata"].(kubetest.Object)["labels"], ofMail["metadata"].(kubetest.Object)["annotations"] = mail["labels"], mail["annotations"]
	api.Put(ofMail)

	put := func(p kubetest.Pod, list string, ports ...kubetest.Object) {
		for i, port := range ports {
			port["containerPort"] = 5000 + i
		}
		p.App, p.Process = "mail", "web"
		p.Edit = func(o kubetest.Object) {
			o["spec"].(map[string]any)[list] = []kubetest.Object{{"name": "x", "image": "x:1", "ports": ports}}
		}
		api.PutPod(p)
	}
	put(kubetest.Pod{Name: "mail-web-1"}, "containers", port("hostPort", 26, "protocol", "TCP"), port())
	put(kubetest.Pod{Name: "svclb", Namespace: "kube-system", Phase: "Pending"}, "containers",
		port("hostPort", 443, "hostIP", "0.0.0.0"), port("hostPort", 27, "hostIP", "192.0.2.1", "protocol", "UDP"))
	put(kubetest.Pod{Name: "side", Namespace: "a"}, "initContainers", port("hostPort", 28))
	put(kubetest.Pod{Name: "failed", Namespace: "a", Phase: "Failed"}, "containers", port("hostPort", 29))
	put(kubetest.Pod{Name: "succeeded", Namespace: "a", Phase: "Succeeded"}, "containers", port("hostPort", 29))
	put(kubetest.Pod{Name: "there", Namespace: "a", Node: "there"}, "containers", port("hostPort", 29))

	c := newClient(t, api, "")
	c.addresses = func() ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, nil
	}
	taken, err := c.Taken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, port := range taken {
		got = append(got, fmt.Sprintf("%s %s", port.Frontend, port.What))
	}
	want := []string{
		"25 Service default/mail-web of type LoadBalancer",
		"26 hostPort of pod default/mail-web-1",
		"192.0.2.1:27/udp hostPort of pod kube-system/svclb",
		"28 hostPort of pod a/side",
		"80 Service kube-system/traefik of type LoadBalancer",
		"81 Service a/pending of type LoadBalancer",
		"82 Service a/named of type LoadBalancer",
		"192.0.2.1:86 Service a/external of type ClusterIP",
		"[2001:db8::1]:86 Service a/external of type ClusterIP",
		"443 Service kube-system/traefik of type LoadBalancer",
		"443 hostPort of pod kube-system/svclb",
		"443/udp Service kube-system/traefik of type LoadBalancer",
		"30083 Service a/foreign of type LoadBalancer",
		"30084/udp Service a/node of type NodePort",
		"30443 Service kube-system/traefik of type LoadBalancer",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}
