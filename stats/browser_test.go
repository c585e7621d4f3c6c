package stats

import (
	"context"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/internal/browser"
)

// address is the page's address, with a login.
func address(o Options, user, password string) string {
	u := url.URL{Scheme: "http", Host: o.Listen.String(), Path: "/"}
	if user != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// What a browser makes of the page: nobody sees it without the login, no name is taken for HTML, and it renews itself.
func TestPageInABrowser(t *testing.T) {
	o := options(t)
	var held atomic.Int64
	o.Observe = func(context.Context) (deploy.Observation, error) {
		f := observed()
		f.Routes[1].Held = int(held.Load())
		return f, nil
	}
	listens := make(chan bool, 2)
	o.Listening = func(is bool) { listens <- is }
	start(t, o)
	<-listens

	for name, login := range map[string][2]string{"none": {}, "wrong": {user, "guess"}} {
		b := browser.New(t)
		if code := b.Open(address(o, login[0], login[1])); code != 401 {
			t.Errorf("login %s: %d", name, code)
		}
		if text := b.Text(); strings.Contains(text, "mail") {
			t.Errorf("login %s: the page shows\n%s", name, text)
		}
	}

	b := browser.New(t)
	if code := b.Open(address(o, user, password)); code != 200 {
		t.Fatalf("with the login: %d\n%s", code, b.Text())
	}
	b.Screenshot("builtin-hostile")
	for _, want := range []string{"1f0c9a2b7d3e", "draining", "<script>alert(\"1\")</script>"} {
		if text := b.Text(); !strings.Contains(text, want) {
			t.Errorf("the page does not show %q:\n%s", want, text)
		}
	}
	if n := b.Scripts(); n != 0 {
		t.Errorf("the page has %d scripts", n)
	}
	held.Store(987)
	b.Await("what is so now", func(text string) bool { return strings.Contains(text, "987 waiting") })
}
