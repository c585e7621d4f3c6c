package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Whatever a Docker that hangs is asked, the client waits no longer for the answer than it was told to.
func TestEveryQuestionIsBounded(t *testing.T) {
	readFile := func(ctx context.Context, c *Client) error {
		_, _, err := c.ReadFile(ctx, "image", []string{"/PORTS"}, 1024)
		return err
	}
	for _, row := range []struct {
		name string
		// hangs are a method and a part of the path of what Docker does not answer.
		method, hangs string
		ask           func(context.Context, *Client) error
	}{
		{"Ping", "HEAD", "/_ping", func(ctx context.Context, c *Client) error { return c.Ping(ctx) }},
		{"Containers", "GET", "/containers/json", func(ctx context.Context, c *Client) error { _, err := c.Endpoints(ctx); return err }},
		{"ContainersOf", "GET", "/containers/json", func(ctx context.Context, c *Client) error { _, err := c.EndpointsOf(ctx, "mail"); return err }},
		{"PublishedPorts", "GET", "/containers/json", func(ctx context.Context, c *Client) error { _, err := c.PublishedPorts(ctx); return err }},
		{"ImageID", "GET", "/images/", func(ctx context.Context, c *Client) error { _, err := c.ImageID(ctx, "image"); return err }},
		{"HasName", "GET", "/images/", func(ctx context.Context, c *Client) error {
			_, err := c.HasName(ctx, "image", "dokku/mail")
			return err
		}},
		{"WorkDir", "GET", "/images/", func(ctx context.Context, c *Client) error { _, err := c.WorkDir(ctx, "image"); return err }},
		{"ReadFile, making a container", "POST", "/containers/create", readFile},
		{"ReadFile, looking", "HEAD", "/archive", readFile},
		{"ReadFile, copying", "GET", "/archive", readFile},
		{"ReadFile, removing the container", "DELETE", "/containers/", readFile},
		{"RemoveLeftovers, listing", "GET", "/containers/json", func(ctx context.Context, c *Client) error { return c.RemoveLeftovers(ctx) }},
		{"RemoveLeftovers, removing", "DELETE", "/containers/", func(ctx context.Context, c *Client) error { return c.RemoveLeftovers(ctx) }},
		{"Watch", "GET", "/events", func(ctx context.Context, c *Client) error {
			return c.Watch(ctx, func() error { return nil }, func(string) {})
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				// Only then is it told that the client has gone.
				_, _ = io.Copy(io.Discard, r.Body)
				if r.Method == row.method && strings.Contains(r.URL.Path, row.hangs) {
					<-r.Context().Done()
					return
				}
				answerAnything(w, r)
			}))
			c := newClient(t)
			c.Bound(50 * time.Millisecond)
			// Far longer than it takes, and below what a question would be given without a bound of its own.
			ctx, cancel := context.WithTimeout(t.Context(), callTimeout/2)
			defer cancel()
			err := row.ask(ctx, c)
			if ctx.Err() != nil {
				t.Fatalf("it went on until its caller gave up: %v", err)
			}
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no answer in time") {
				t.Errorf("got %v, want ErrUnreachable and that there was no answer in time", err)
			}
		})
	}
}

// answerAnything is a Docker with one leftover container and an image in which everything is a file of one byte.
func answerAnything(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/containers/create"):
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"Id":"temporary"}`)
	case strings.HasSuffix(r.URL.Path, "/containers/json"):
		_, _ = fmt.Fprintf(w, `[{"Id":"left","Names":["/left"],"Labels":{%q:"2020-01-01T00:00:00Z"}}]`, labelTemporary)
	case strings.HasSuffix(r.URL.Path, "/archive"):
		// {"name":"PORTS","size":1,"mode":420}
		w.Header().Set("X-Docker-Container-Path-Stat", "eyJuYW1lIjoiUE9SVFMiLCJzaXplIjoxLCJtb2RlIjo0MjB9")
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	}
}
