package haproxy_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/browser"
)

// HAProxy's page in a browser: nobody sees it without the login, and it shows by itself that a deploy moves the traffic.
func TestStatsPageInABrowser(t *testing.T) {
	addr, stats := withStats(t)
	h := haproxytest.Start(t, stats)
	v1, v2, mail := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), port(t)
	apply(t, h, route("mail", mail, v1))
	connect(t, mail)
	connect(t, mail)

	page := url.URL{Scheme: "http", Host: addr.String(), Path: "/"}
	for name, login := range map[string]*url.Userinfo{"none": nil, "wrong": url.UserPassword(user, "guess")} {
		page.User = login
		b := browser.New(t)
		if code := b.Open(page.String()); code != 401 {
			t.Errorf("login %s: %d", name, code)
		}
		if text := b.Text(); strings.Contains(text, "mail") {
			t.Errorf("login %s: the page shows\n%s", name, text)
		}
	}
	page.User = url.UserPassword(user, hostile)
	b := browser.New(t)
	if code := b.Open(page.String()); code != 200 {
		t.Fatalf("with the login: %d\n%s", code, b.Text())
	}
	// A row's cells: the slot's name, three of its queue, three of its rate, its sessions now and at most, ..., its state.
	row := func(sessions, state string) func(string) bool {
		cells := regexp.MustCompile(`(?m)^s\d\t(\S*\t){6}` + sessions + `\t.*\t[^\t]*` + state)
		return cells.MatchString
	}
	b.Await("two connections on v1", row("2", " UP"))
	if text := b.Text(); !strings.Contains(text, "public port "+mail.String()+" of app mail, process type web") {
		t.Errorf("the page does not say what the port is for:\n%s", text)
	}
	apply(t, h, route("mail", mail, v2))
	connect(t, mail)
	b.Await("v1 to drain", row("2", " MAINT"))
	b.Await("the new connection on v2", row("1", " UP"))
	b.Screenshot("haproxy-page")
}
