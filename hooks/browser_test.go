package hooks_test

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"dokku-expose/internal/browser"
	"dokku-expose/internal/rig"
)

// address is that of a page with the login in it.
func (s shown) address(h *host, path string) string {
	u, err := url.Parse(s.URL)
	h.must(err)
	u.User, u.Path = url.UserPassword(s.User, s.Password), path
	return u.String()
}

// A deploy is seen to move the traffic, with either engine, by somebody who does nothing but look.
func TestBrowserSeesADeploy(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		name := filepath.Base(t.Name()) // of the engine
		public := h.port()
		h.push("mail", source("v1", lead(public, private)))
		h.push("chat", source("v1", lead(h.port(), private), lead(h.port(), private)))
		for range 2 {
			c, err := h.dial(public)
			h.must(err)
			h.must(c.echo())
		}
		page := h.stats()
		v1 := h.current("mail", "web.1")[:12]
		if code := browser.New(t).Open(page.URL); code != 401 {
			t.Errorf("without a login: %d", code)
		}
		b := browser.New(t)
		if code := b.Open(page.address(h, "/containers")); code != 200 {
			t.Fatalf("with the login: %d\n%s", code, b.Text())
		}
		// row is a container's row of the page.
		row := func(text, container string) string {
			for line := range strings.Lines(text) {
				if strings.Contains(line, container) {
					return line
				}
			}
			return ""
		}
		b.Await("v1", func(text string) bool {
			return strings.Contains(row(text, v1), "ready") && strings.Contains(text, fmt.Sprint(public))
		})
		b.Screenshot(name + "-before")
		seen := false
		h.must(h.Push("mail", source("v2", lead(public, private)), rig.After(func(c rig.Call, r rig.Result) {
			if c.Name != "post-deploy" {
				return
			}
			c2, err := h.dial(public)
			h.must(err)
			h.must(c2.echo())
			v2 := h.current("mail", "web.1")[:12]
			b.Await("v1 to drain", func(text string) bool {
				return strings.Contains(row(text, v1), "draining") && strings.Contains(row(text, v2), "ready")
			})
			b.Screenshot(name + "-after")
			seen = true
		})))
		if !seen {
			t.Error("post-deploy was not called")
		}
	})
}
