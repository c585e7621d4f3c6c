package kube

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dokku-expose/internal/kubetest"
)

// questions are all that can be asked.
var questions = map[string]func(context.Context, *Client) error{
	"Endpoints":   func(ctx context.Context, c *Client) error { _, err := c.Endpoints(ctx); return err },
	"EndpointsOf": func(ctx context.Context, c *Client) error { _, err := c.EndpointsOf(ctx, "mail"); return err },
	"Taken":       func(ctx context.Context, c *Client) error { _, err := c.Taken(ctx); return err },
	"Watch": func(ctx context.Context, c *Client) error {
		return c.Watch(ctx, func() error { return nil }, func(string) {})
	},
	"Nodes": func(ctx context.Context, c *Client) error { _, _, err := c.Nodes(ctx); return err },
	"FollowConfigMap": func(ctx context.Context, c *Client) error {
		return c.FollowConfigMap(ctx, "expose", "expose", func(map[string]string) error { return nil })
	},
	"Apply":     func(ctx context.Context, c *Client) error { return c.Apply(ctx, daemonSet) },
	"Delete":    func(ctx context.Context, c *Client) error { return c.Delete(ctx, daemonSet) },
	"RolloutOf": func(ctx context.Context, c *Client) error { _, err := c.RolloutOf(ctx, daemonSet); return err },
}

// ofObjects are those of the questions about an object by its name, which a server that works may not have.
var ofObjects = []string{"Apply", "Delete", "RolloutOf"}

// The client waits for no answer longer than its bound, whichever the question is.
func TestEveryQuestionIsBounded(t *testing.T) {
	for _, row := range []struct{ name, hangs string }{
		{"Endpoints", "/nodes"}, {"Endpoints", "/pods"}, {"EndpointsOf", "/pods"}, {"Taken", "/nodes"}, {"Taken", "/services"}, {"Taken", "/pods"},
		{"Watch", "/nodes"}, {"Watch", "/pods?labelSelector"}, {"Watch", "watch=true"}, {"Watch", "/pods"},
		{"Nodes", "/nodes"}, {"FollowConfigMap", "/configmaps?fieldSelector"}, {"FollowConfigMap", "watch=true"}, {"Apply", "/expose"}, {"Delete", "/expose"}, {"RolloutOf", "/expose"},
	} {
		t.Run(row.name+" "+row.hangs, func(t *testing.T) {
			api := kubetest.New(t)
			c := newClient(t, api, "")
			api.Handle(func(_ http.ResponseWriter, r *http.Request) bool {
				hangs := strings.Contains(r.URL.RequestURI(), row.hangs)
				if hangs {
					<-r.Context().Done()
				}
				return hangs
			})
			// Its first connection takes its time.
			if row.hangs != "/nodes" {
				_, _, err := c.onNode(t.Context(), c.current)
				if err != nil {
					t.Fatal(err)
				}
			}
			if former := c.Bound(50 * time.Millisecond); former != callTimeout {
				t.Errorf("the bound was %v", former)
			}
			ctx, cancel := context.WithTimeout(t.Context(), callTimeout/2)
			defer cancel()
			err := questions[row.name](ctx, c)
			if ctx.Err() != nil {
				t.Fatalf("it went on until its caller gave up: %v", err)
			}
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no answer in time") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A server that accepts connections and never answers ends no question before its bound, and every one with its context.
func TestHangingServer(t *testing.T) {
	api := kubetest.New(t)
	api.Hang()
	for name, ask := range questions {
		c := newClient(t, api, "")
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error, 1)
		go func() { end <- ask(ctx, c) }()
		cancel()
		select {
		case err := <-end:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: got %v", name, err)
			}
		case <-time.After(callTimeout / 2):
			t.Errorf("%s: it waits for the server", name)
		}
		c.Bound(50 * time.Millisecond)
		if err := ask(t.Context(), c); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), api.URL()) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// The same clients would get on.
	api.Resume()
	if _, err := newClient(t, api, "").Endpoints(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	for _, row := range []struct {
		code        int
		unreachable bool
		parts       []string
	}{
		{http.StatusUnauthorized, false, []string{"credentials", `user "token"`, "renew"}},
		{http.StatusForbidden, false, []string{`user "token"`, "role", "the test wants it"}},
		{http.StatusNotFound, false, []string{"404", "correct the address"}},
		{http.StatusFound, false, []string{"302", "correct the address"}},
		{http.StatusTooManyRequests, true, []string{"429"}},
		{http.StatusInternalServerError, true, []string{"500", "the test wants it", "systemctl status k3s"}},
		{http.StatusServiceUnavailable, true, []string{"503"}},
	} {
		t.Run(http.StatusText(row.code), func(t *testing.T) {
			api := kubetest.New(t)
			c := newClient(t, api, "token")
			api.Fail(row.code)
			for name, ask := range questions {
				if row.code == http.StatusNotFound && slices.Contains(ofObjects, name) {
					continue
				}
				err := ask(t.Context(), c)
				if errors.Is(err, ErrUnreachable) != row.unreachable {
					t.Errorf("%s: got %v", name, err)
				}
				for _, part := range append(row.parts, api.URL(), c.config.Kubeconfig) {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("%s: %v lacks %q", name, err, part)
					}
				}
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	api := kubetest.New(t)
	file := api.Kubeconfig(t)
	edit(t, file, api.URL(), "https://"+l.Addr().String())
	l.Close()
	c, err := New(Config{Kubeconfig: file, Namespace: inDefault})
	if err != nil {
		t.Fatal(err)
	}
	for name, ask := range questions {
		if err := ask(t.Context(), c); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// edit replaces a text in a file, which must be there.
func edit(t *testing.T, file, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s lacks %q:\n%s", file, old, text)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), old, replacement)), 0o600); err != nil {
		t.Fatal(err)
	}
}
