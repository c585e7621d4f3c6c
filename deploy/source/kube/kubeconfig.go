package kube

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"
)

// kubeconfig has the fields of such a file that are read: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
type kubeconfig struct {
	Current                   string `yaml:"current-context"`
	Clusters, Users, Contexts []entry
}

// entry is one of a list's, of which it has one field beside the name.
type entry struct {
	Name    string
	Cluster cluster
	User    user
	Context struct{ Cluster, User string }
}

// find returns the entry of that name, or nil.
func find(list []entry, name string) *entry {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

type cluster struct {
	Server     string
	CA         string `yaml:"certificate-authority"`
	CAData     string `yaml:"certificate-authority-data"`
	Insecure   bool   `yaml:"insecure-skip-tls-verify"`
	ServerName string `yaml:"tls-server-name"`
}

type user struct {
	Certificate     string `yaml:"client-certificate"`
	CertificateData string `yaml:"client-certificate-data"`
	Key             string `yaml:"client-key"`
	KeyData         string `yaml:"client-key-data"`
	Token           string
	TokenFile       string `yaml:"tokenFile"`
	Username        string
	Password        string
	Exec            any
	AuthProvider    any `yaml:"auth-provider"`
	As              any
}

// session is a client of the API server as the kubeconfig names it at one time.
type session struct {
	server *url.URL
	http   *http.Client
	// authorize gives a request the credentials that are no certificate.
	authorize func(*http.Request)
	// file is the kubeconfig's path, as names the user of it and the context: for messages.
	file, as string
	// node is the name of this host's node, nil until it is known.
	node atomic.Pointer[string]

	// from are the files that were read, with their states then, and sum is the checksum of them all.
	from []string
	read []os.FileInfo
	sum  hash.Hash
}

// session returns the session of the files as they are now. It stays the same when files are written anew with the same content.
func (c *Client) session() (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.current
	if old != nil && old.fresh() {
		return old, nil
	}
	s, err := c.open()
	if err != nil {
		return nil, err
	}
	if old != nil && bytes.Equal(old.sum.Sum(nil), s.sum.Sum(nil)) {
		old.read = s.read
		return old, nil
	}
	c.current = s
	return s, nil
}

// fresh tells whether no file has changed since it was read.
func (s *session) fresh() bool {
	for i, old := range s.read {
		now, err := os.Stat(s.from[i])
		if err != nil || !os.SameFile(old, now) || !now.ModTime().Equal(old.ModTime()) || now.Size() != old.Size() {
			return false
		}
	}
	return true
}

// open reads the kubeconfig and the files that it names.
func (c *Client) open() (*session, error) {
	path := c.config.Kubeconfig
	s := &session{file: path, sum: sha256.New()}
	text, err := s.load(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the kubeconfig %s is not there: install k3s with `dokku scheduler-k3s:initialize`, "+
			"or name the file of another cluster with `dokku scheduler-k3s:set --global kubeconfig-path FILE`: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("user id %d may not read the kubeconfig: give it the right to: %w", os.Geteuid(), err)
	case err != nil:
		return nil, fmt.Errorf("the kubeconfig: %w", err)
	}
	var file kubeconfig
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("the kubeconfig %s is no YAML of a kubeconfig; `kubectl --kubeconfig %s config view` tells whether it is correct: %w", path, path, err)
	}
	if err := s.configure(&file, c); err != nil {
		return nil, fmt.Errorf("the kubeconfig %s: %w", path, err)
	}
	return s, nil
}

// load reads a file and notes its state. A relative path is one from the kubeconfig's folder.
func (s *session) load(path string) ([]byte, error) {
	if path != s.file && !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(s.file), path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	s.read, s.from = append(s.read, info), append(s.from, path)
	s.sum.Write(text)
	return text, nil
}

// either returns the base64 data of the kubeconfig, or else the content of the file at path.
func (s *session) either(key, data, path string) ([]byte, error) {
	if data != "" {
		text, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return nil, fmt.Errorf("%s-data is no base64: %w", key, err)
		}
		return text, nil
	}
	if path == "" {
		return nil, nil
	}
	text, err := s.load(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return text, nil
}

// configure makes the session of a file's context.
func (s *session) configure(file *kubeconfig, c *Client) error {
	name, hint := c.config.Context, "correct `dokku scheduler-k3s:set --global kube-context NAME`"
	if name == "" {
		name, hint = file.Current, "correct its current-context, or name one with `dokku scheduler-k3s:set --global kube-context NAME`"
	}
	in := find(file.Contexts, name)
	if in == nil {
		names := make([]string, len(file.Contexts))
		for i := range file.Contexts {
			names[i] = file.Contexts[i].Name
		}
		return fmt.Errorf("it has no context %q, only %q: %s", name, names, hint)
	}
	s.as = fmt.Sprintf("user %q (context %q)", in.Context.User, name)
	of := find(file.Clusters, in.Context.Cluster)
	if of == nil {
		return fmt.Errorf("it has no cluster %q, which its context %q names: correct either", in.Context.Cluster, name)
	}
	transport, err := s.transport(&of.Cluster, c.silence)
	if err != nil {
		return fmt.Errorf("cluster %q: %w", of.Name, err)
	}
	// A redirection would take the credentials to another server.
	s.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	s.authorize = func(*http.Request) {}
	if in.Context.User == "" {
		return nil // It is anonymous.
	}
	by := find(file.Users, in.Context.User)
	if by == nil {
		return fmt.Errorf("it has no %s: add that user, or correct the context", s.as)
	}
	if err := s.identify(&by.User, transport.TLSClientConfig); err != nil {
		return fmt.Errorf("%s: %w", s.as, err)
	}
	return nil
}

// transport connects to a cluster's API server. A connection that is lost is noticed within 15 seconds: HTTP/2 pings the server, and
// TCP the host.
func (s *session) transport(of *cluster, silence time.Duration) (*http.Transport, error) {
	server, err := url.Parse(of.Server)
	if err != nil || server.Host == "" || server.Scheme != "https" && server.Scheme != "http" {
		return nil, fmt.Errorf("its server %q is no address of an API server: write it as https://127.0.0.1:6443", of.Server)
	}
	s.server = server
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence, Interval: 2 * time.Second, Count: 3}}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     &tls.Config{ServerName: of.ServerName, InsecureSkipVerify: of.Insecure},
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: silence / 2},
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: callTimeout,
	}
	ca, err := s.either("certificate-authority", of.CAData, of.CA)
	if err != nil {
		return nil, err
	}
	if ca != nil {
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("its certificate-authority has no certificate in PEM format")
		}
	}
	return transport, nil
}

// identify gives the session the credentials of a user.
func (s *session) identify(u *user, config *tls.Config) error {
	for key, value := range map[string]any{"exec": u.Exec, "auth-provider": u.AuthProvider, "as": u.As} {
		if value != nil {
			return fmt.Errorf("%q is not supported: use a file whose user has a client certificate or a token (/etc/rancher/k3s/k3s.yaml)", key)
		}
	}
	certificate, err := s.either("client-certificate", u.CertificateData, u.Certificate)
	if err != nil {
		return err
	}
	key, err := s.either("client-key", u.KeyData, u.Key)
	if err != nil {
		return err
	}
	if certificate != nil || key != nil {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return fmt.Errorf("client-certificate and client-key make no pair: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if u.TokenFile != "" {
		text, err := s.load(u.TokenFile)
		if err != nil {
			return fmt.Errorf("tokenFile: %w", err)
		}
		u.Token = strings.TrimSpace(string(text))
	}
	switch {
	case u.Token != "":
		s.authorize = func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+u.Token) }
	case u.Username != "":
		s.authorize = func(r *http.Request) { r.SetBasicAuth(u.Username, u.Password) }
	}
	return nil
}
