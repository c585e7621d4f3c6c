// Package kube is the Kubernetes side of the model: which pods the apps of Dokku's scheduler-k3s have, and where this host, a node of the
// cluster, reaches them. It turns the answers of the Kubernetes API into the types of package deploy.
//
// It knows the Kubernetes API, the labels of Dokku's chart and the addresses of this host. It must not know settings, routes or
// engines, nor print anything. In the cluster it changes the objects that it is given, and no others. It speaks HTTP by itself: client-go
// would make the program 10 MB larger and the start of each hook 3 ms slower.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dokku-expose/deploy"
)

var (
	// ErrUnreachable is wrapped by every error whose reason is that the API server does not answer.
	ErrUnreachable error = deploy.Unreachable("the Kubernetes API server")
	// ErrForeign is wrapped by the error that this host is no node of the cluster, so that it does not reach the pods.
	ErrForeign = errors.New("this host is none of the cluster's nodes")

	// ErrMissing is wrapped by the error that there is no such object.
	ErrMissing = errors.New("it is missing")

	// errExpired tells that the API server has forgotten the version of the objects that it was asked about.
	errExpired = errors.New("the version has expired")
	errTooLong = errors.New("the answer is too long")
)

// Name is the source's name.
const Name = "k3s"

const (
	// callTimeout bounds one question to the API server, where nothing else is said.
	callTimeout = 30 * time.Second
	// maxList bounds one list in bytes, all of its chunks together: that is some 6,000 pods.
	maxList = 64 << 20
	// maxChunk is how many objects a part of a list has.
	maxChunk = 500
	// maxStatus bounds what is read of an error's answer, in bytes.
	maxStatus = 64 << 10
)

// Config says which cluster is asked, and as which user.
type Config struct {
	// Kubeconfig is the path of a kubeconfig file: /etc/rancher/k3s/k3s.yaml.
	Kubeconfig string
	// Context is the name of one of its contexts, "" for its current-context.
	Context string
	// Node is the name of the node that this host is, "" where the cluster has to be asked for it.
	Node string
	// Outside tells that this host need not be a node: it does not connect to the pods.
	Outside bool
	// Namespace tells in which namespace an app's pods are.
	Namespace func(app string) (string, error)
}

// Client asks one API server. It may be used by several goroutines at once.
type Client struct {
	config Config
	// bound is what one question may take, a time.Duration.
	bound atomic.Int64
	// addresses are this host's own, and silence is how long a connection may be silent before the API server is pinged. Tests set both.
	addresses func() ([]netip.Addr, error)
	silence   time.Duration

	mu      sync.Mutex
	current *session
}

var _ deploy.Source = (*Client)(nil)

// New makes a client for the cluster that config names. It does not connect yet. The kubeconfig is read here, and again by a later
// question when it has changed: k3s rotates its certificates.
func New(config Config) (*Client, error) {
	c := &Client{config: config, addresses: hostAddresses, silence: 10 * time.Second}
	c.Bound(callTimeout)
	if _, err := c.session(); err != nil {
		return nil, err
	}
	return c, nil
}

// Bound sets how long the API server may take to answer one question from now on; 30 seconds is what it is at first. A list counts as
// one question, and the events of Watch as none. It returns the former bound.
func (c *Client) Bound(d time.Duration) (former time.Duration) {
	return time.Duration(c.bound.Swap(int64(d)))
}

// Asks tells whether this is a client with such a config, whatever its Namespace is.
func (c *Client) Asks(o Config) bool {
	return c.config.Kubeconfig == o.Kubeconfig && c.config.Context == o.Context && c.config.Node == o.Node && c.config.Outside == o.Outside
}

// Close closes idle connections.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current.http.CloseIdleConnections()
	return nil
}

// question is one to the API server: the path and the query of a list, and the kind of its objects ("Pod").
type question struct {
	// what completes the sentence "can't ...": "listing the pods of all apps".
	what, path, kind string
	query            url.Values
}

// object is the metadata of an object.
type object struct {
	Namespace         string
	Name              string
	UID               string
	ResourceVersion   string
	DeletionTimestamp string
	Labels            map[string]string
	Annotations       map[string]string
	OwnerReferences   []struct {
		Kind       string
		Controller bool
	}
}

// list asks for all objects, in chunks. The version is that of the whole list, from which a watch can go on.
func list[T any](ctx context.Context, c *Client, s *session, q question) (items []T, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.bound.Load()))
	defer cancel()
	items, version, err = chunks[T](ctx, s, q)
	// A chunk comes too late when etcd has been compacted since the first one.
	if errors.Is(err, errExpired) {
		items, version, err = chunks[T](ctx, s, q)
	}
	return items, version, s.failed(ctx, q.what, err)
}

func chunks[T any](ctx context.Context, s *session, q question) (items []T, version string, err error) {
	query := maps.Clone(q.query)
	if query == nil {
		query = make(url.Values)
	}
	query.Set("limit", strconv.Itoa(maxChunk))
	for left := int64(maxList); ; {
		response, err := s.get(ctx, q.path, query)
		if err != nil {
			return nil, "", err
		}
		body := &bounded{body: response.Body, left: left}
		text, err := io.ReadAll(body)
		response.Body.Close()
		if err != nil {
			return nil, "", unreadable(err)
		}
		var chunk struct {
			Kind     string
			Metadata struct{ ResourceVersion, Continue string }
			Items    []T
		}
		if err := json.Unmarshal(text, &chunk); err != nil {
			return nil, "", err
		}
		if chunk.Kind != q.kind+"List" {
			return nil, "", fmt.Errorf("it has the kind %.40q instead of %q", chunk.Kind, q.kind+"List")
		}
		items, left = append(items, chunk.Items...), body.left
		if chunk.Metadata.Continue == "" {
			return items, chunk.Metadata.ResourceVersion, nil
		}
		query.Set("continue", chunk.Metadata.Continue)
	}
}

// bounded is a body of which no more than left bytes are read.
type bounded struct {
	body io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// broken is an error of the connection: a later attempt can succeed.
type broken struct{ error }

func (b broken) Unwrap() error { return b.error }

// own is an error of this host's, in which the API server has no part.
type own struct{ error }

func (o own) Unwrap() error { return o.error }

// unreadable sorts the errors of reading an answer: no API server writes such a one, or else the connection has broken.
func unreadable(err error) error {
	var (
		syntax *json.SyntaxError
		wrong  *json.UnmarshalTypeError
	)
	if errors.Is(err, errTooLong) || errors.As(err, &syntax) || errors.As(err, &wrong) {
		return err
	}
	return broken{err}
}

// status is an answer that is an error.
type status struct {
	Code            int
	Reason, Message string
}

func (s *status) Error() string {
	text := fmt.Sprintf("it answers %d %s", s.Code, http.StatusText(s.Code))
	if s.Message != "" {
		text += fmt.Sprintf(" (%.300s)", s.Message)
	}
	return text
}

// Is implements the contract of [errors.Is].
func (s *status) Is(target error) bool {
	return target == errExpired && s.Code == http.StatusGone || target == ErrMissing && s.Code == http.StatusNotFound
}

// get asks for a path. The body of the answer, which is the caller's to close, is that of a success.
func (s *session) get(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	return s.send(ctx, http.MethodGet, path, query, "", nil)
}

// send sends a request, with a body of the content type where that is not "". The body of the answer, which is the caller's to close, is
// that of a success.
func (s *session) send(ctx context.Context, method, path string, query url.Values, contentType string, body []byte) (*http.Response, error) {
	at := s.server.JoinPath(path)
	at.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "dokku-expose")
	s.authorize(request)
	response, err := s.http.Do(request)
	if err != nil {
		return nil, broken{err}
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	answer := &status{}
	if text, err := io.ReadAll(io.LimitReader(response.Body, maxStatus)); err == nil && json.Unmarshal(text, answer) != nil {
		answer = &status{Message: strings.TrimSpace(string(text))}
	}
	answer.Code = response.StatusCode
	return nil, answer
}

// failed tells what could not be done, why, and what helps. ctx is the question's.
func (s *session) failed(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	var (
		answer *status
		lost   broken
		here   own
		forged *tls.CertificateVerificationError
		at     = fmt.Sprintf("at %s (%s)", s.server.Redacted(), s.file)
	)
	const help = "see `systemctl status k3s` on the cluster's server node"
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.Canceled):
		return fmt.Errorf("%s: %w", what, cause)
	case errors.Is(cause, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w %s: no answer in time: %s", what, ErrUnreachable, at, help)
	case errors.As(err, &here):
		return fmt.Errorf("%s: %w", what, here.error)
	case errors.As(err, &answer):
		switch code := answer.Code; {
		case code == http.StatusUnauthorized:
			return fmt.Errorf("%s: the Kubernetes API server %s does not accept the credentials of %s: %w: renew them in that file", what, at, s.as, err)
		case code == http.StatusForbidden:
			return fmt.Errorf("%s: the Kubernetes API server %s does not let %s do that: %w: give that user a role that may list and watch pods, services and nodes, "+
				"or use the file of an administrator (/etc/rancher/k3s/k3s.yaml)", what, at, s.as, err)
		case code >= 500 || code == http.StatusTooManyRequests:
			return fmt.Errorf("%s: %w %s: %w: %s", what, ErrUnreachable, at, err, help)
		}
	case errors.As(err, &forged):
		return fmt.Errorf("%s: the Kubernetes API server %s can't be trusted: correct the server or its certificate authority in that file: %w", what, at, err)
	case errors.As(err, &lost):
		return fmt.Errorf("%s: %w %s: %s: %w", what, ErrUnreachable, at, help, lost)
	}
	return fmt.Errorf("%s: the answer of the server %s is none of a Kubernetes API server; correct the address in that file: %w", what, at, err)
}
