package kubetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Pod is a pod as scheduler-k3s makes it for an app.
type Pod struct {
	App, Process, Name string
	// Namespace is "default" where it is "".
	Namespace string
	// Node is "here" where it is "".
	Node string
	// Image is "test:1" where it is "".
	Image string
	IPs   []string
	// Phase is "Running" where it is "".
	Phase string
	// Ready and Leaving are the condition of that name, and that the pod has a deletionTimestamp.
	Ready, Leaving bool
	// Edit changes the object before it is put.
	Edit func(Object)
}

// PutPod makes a pod, or replaces the one of that name.
func (a *API) PutPod(p Pod) { a.Put(p.Object()) }

// DeletePod takes away a pod of the namespace "default".
func (a *API) DeletePod(name string) { a.Delete("Pod", "default", name) }

// Object is the pod as the API has it.
func (p Pod) Object() Object {
	or := func(value, other string) string {
		if value == "" {
			return other
		}
		return value
	}
	ready := "False"
	if p.Ready {
		ready = "True"
	}
	instance := p.App + "-" + p.Process
	meta := Object{
		"name": p.Name, "namespace": or(p.Namespace, "default"), "creationTimestamp": "2026-01-01T00:00:00Z",
		"labels":          Object{"app.kubernetes.io/part-of": p.App, "app.kubernetes.io/name": p.Process, "app.kubernetes.io/instance": instance},
		"annotations":     Object{"dokku.com/managed": "true"},
		"ownerReferences": []Object{{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": instance + "-5d5c", "uid": instance, "controller": true}},
	}
	if p.Leaving {
		meta["deletionTimestamp"] = "2026-01-01T00:01:00Z"
	}
	status := Object{"phase": or(p.Phase, "Running"), "conditions": []Object{{"type": "Ready", "status": ready}}}
	var ips []Object
	for _, ip := range p.IPs {
		ips = append(ips, Object{"ip": ip})
		status["podIP"], status["podIPs"] = p.IPs[0], ips
	}
	o := Clone(Object{
		"kind": "Pod", "apiVersion": "v1", "metadata": meta, "status": status,
		"spec": Object{"nodeName": or(p.Node, "here"), "containers": []Object{{"name": instance, "image": or(p.Image, "test:1")}}},
	})
	if p.Edit != nil {
		p.Edit(o)
	}
	return o
}

// Node is a node with these internal addresses.
func Node(name string, addrs ...string) Object {
	list := []Object{{"type": "Hostname", "address": name}}
	for _, addr := range addrs {
		list = append(list, Object{"type": "InternalIP", "address": addr})
	}
	return Object{"kind": "Node", "apiVersion": "v1", "metadata": Object{"name": name}, "status": Object{"addresses": list}}
}

// Service is a service; the rest of it is its spec and its status.
func Service(namespace, name string, spec, status Object) Object {
	return Object{"kind": "Service", "apiVersion": "v1", "metadata": Object{"namespace": namespace, "name": name}, "spec": spec, "status": status}
}

// HostAddresses are those of this host but loopback.
func HostAddresses(t testing.TB) (found []string) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().IsGlobalUnicast() {
			found = append(found, prefix.Addr().String())
		}
	}
	return found
}

// Kubeconfig writes a kubeconfig for the server to a file of the test, and returns its path. Its contexts "certificate", which is the
// current one, "token", "basic" and "nobody" are called as their users.
func (a *API) Kubeconfig(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "k3s.yaml")
	a.WriteKubeconfig(t, path)
	return path
}

// WriteKubeconfig writes a kubeconfig as Kubeconfig does, over the file that is there.
func (a *API) WriteKubeconfig(t testing.TB, path string) {
	t.Helper()
	a.mu.Lock()
	certificate, key := base64.StdEncoding.EncodeToString(a.certificate), base64.StdEncoding.EncodeToString(a.key)
	a.mu.Unlock()
	var file bytes.Buffer
	fmt.Fprintf(&file, "apiVersion: v1\nkind: Config\npreferences: {}\ncurrent-context: certificate\nclusters:\n"+
		"- cluster:\n    certificate-authority-data: %s\n    server: %s\n  name: test\n", base64.StdEncoding.EncodeToString(a.CA()), a.URL())
	file.WriteString("contexts:\n")
	for _, user := range []string{"certificate", "token", "basic", "nobody"} {
		fmt.Fprintf(&file, "- context:\n    cluster: test\n    user: %s\n  name: %s\n", user, user)
	}
	fmt.Fprintf(&file, "users:\n- name: certificate\n  user:\n    client-certificate-data: %s\n    client-key-data: %s\n", certificate, key)
	fmt.Fprintf(&file, "- name: token\n  user:\n    token: %s\n- name: basic\n  user:\n    username: admin\n    password: %s\n- name: nobody\n  user: {}\n", a.Token, a.Password)
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// CA is the server's certificate authority in PEM format.
func (a *API) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw})
}

// ClientCertificate returns the certificate and the key of a client, in PEM format.
func (a *API) ClientCertificate() (certificate, key []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.certificate, a.key
}

// RotateCertificate makes another client certificate. The old one is not accepted any more.
func (a *API) RotateCertificate() {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "system:admin", Organization: []string{"system:masters"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		panic(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.raw = raw
	a.certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	a.key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
}
