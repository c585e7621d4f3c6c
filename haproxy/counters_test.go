package haproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/wait"
)

func traffic(t *testing.T, h *haproxytest.HAProxy) deploy.Observation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	got, err := h.Engine.Observe(ctx, deploy.Counters)
	if err != nil {
		t.Fatal(err)
	}
	got.Sort()
	return got
}

func TestTraffic(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2, v3, mail := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), enginetest.NewServer(t, "v3"), port(t)
	at := func(s *enginetest.Server, current bool, connections int) deploy.ServerState {
		return deploy.ServerState{Addr: s.Addr, Old: !current, Up: current, Connections: connections}
	}
	// want waits for the servers of the first route, for HAProxy notices the end of a connection when it likes.
	want := func(when string, servers ...deploy.ServerState) deploy.Observation {
		t.Helper()
		var got deploy.Observation
		wait.Until(t, when, func() bool {
			got = traffic(t, h)
			if len(got.Routes) == 0 || len(got.Routes[0].Servers) != len(servers) {
				return false
			}
			for i, s := range got.Routes[0].Servers {
				if s != servers[i] {
					return false
				}
			}
			return true
		})
		return got
	}
	open := func(name string) net.Conn {
		t.Helper()
		conn, greeting := connect(t, mail)
		if greeting != name {
			t.Fatalf("%s answered", greeting)
		}
		return conn
	}

	apply(t, h, route("mail", mail, v1))
	first, second := open("v1"), open("v1")
	got := want("two connections are on v1", at(v1, true, 2))
	if r := got.Routes[0]; r.App != "mail" || r.Key != mail || !r.Listening || r.Total != 2 || r.Held != 0 {
		t.Errorf("%+v", r)
	}
	if got.MaxConnections == 0 || time.Since(got.Since) < 0 || len(got.Old) > 0 {
		t.Errorf("%+v", got)
	}

	// A switch.
	apply(t, h, route("mail", mail, v2))
	open("v2")
	want("v1 drains", at(v2, true, 1), at(v1, false, 2))
	closeConn(t, first)
	want("v1 has one less", at(v2, true, 1), at(v1, false, 1))

	// Connections of an old worker are counted as well, of which only their number is known to the new one.
	reloads := *got.Reloads
	apply(t, h, route("mail", mail, v3), route("news", port(t), v1))
	open("v3")
	got = want("the old worker drains", append([]deploy.ServerState{at(v3, true, 1)}, byAddress(at(v1, false, 1), at(v2, false, 1))...)...)
	if len(got.Old) != 1 || got.Old[0].Connections != 2 || *got.Reloads != reloads+1 || len(got.Routes) != 2 {
		t.Errorf("%+v", got)
	}

	// A route that is gone, but for its connections.
	apply(t, h, route("news", port(t), v1))
	got = want("mail is closed", byAddress(at(v1, false, 1), at(v2, false, 1), at(v3, false, 1))...)
	if got.Routes[0].Listening || len(got.Old) != 2 {
		t.Errorf("%+v", got)
	}
	closeConn(t, second)
}

func byAddress(servers ...deploy.ServerState) []deploy.ServerState {
	slices.SortFunc(servers, func(a, b deploy.ServerState) int { return a.Addr.Compare(b.Addr) })
	return servers
}

func closeConn(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestHeldTraffic(t *testing.T) {
	h := haproxytest.Start(t)
	mail := port(t)
	r := route("mail", mail)
	r.Hold = time.Second
	apply(t, h, r)
	conn, err := net.Dial("tcp", "127.0.0.1:"+mail.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wait.Until(t, "a connection is held", func() bool { r := traffic(t, h).Routes[0]; return r.Held == 1 && r.Lost() == 0 })
	if rest, err := io.ReadAll(conn); len(rest) > 0 {
		t.Errorf("got %q, %v", rest, err)
	}
	wait.Until(t, "it was not served", func() bool { r := traffic(t, h).Routes[0]; return r.Held == 0 && r.Lost() == 1 })
	if r := traffic(t, h).Routes[0]; r.Failed != 0 {
		t.Errorf("no server was asked: %+v", r)
	}
}

func TestObserveNoHAProxy(t *testing.T) {
	h := haproxytest.New(t)
	o, err := h.Engine.Observe(t.Context(), deploy.Counters, deploy.Health)
	if err != nil || o.Running || len(o.Routes) > 0 || len(o.Wrong) != 1 || !errors.Is(o.Wrong[0], deploy.ErrNotRunning) {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestStatsPageSaysWhatPortsAreFor(t *testing.T) {
	addr, stats := withStats(t)
	h := haproxytest.Start(t, stats)
	bad := "<script>alert(1)</script>\n'"
	apply(t, h, route("mail", port(t), enginetest.NewServer(t, "v1")), route(bad, port(t), enginetest.NewServer(t, "v2")))
	code, body := get(t, addr, "/", hostile)
	if code != http.StatusOK || !strings.Contains(body, " of app mail") || strings.Contains(body, "<script") ||
		!strings.Contains(body, "of app &lt;script&gt;alert(1)&lt;/script&gt;") {
		t.Errorf("%d\n%s", code, body)
	}
}

// What is behind the daemon's socket is seen with the login of the page only.
func TestDaemonBehindTheStatsPage(t *testing.T) {
	addr, stats := withStats(t)
	h := haproxytest.New(t, stats, func(c *haproxy.Config) { c.DaemonSocket = filepath.Join(filepath.Dir(c.StatsSocket), "page.sock") })
	if err := h.Engine.Prepare(t.Context(), deploy.Table{}); err != nil {
		t.Fatal(err)
	}
	h.Start()
	apply(t, h, route("mail", port(t), enginetest.NewServer(t, "v1")))
	if code, _ := get(t, addr, "/metrics", hostile); code != http.StatusServiceUnavailable {
		t.Errorf("without a daemon: %d", code)
	}
	ln, err := net.Listen("unix", h.Config.DaemonSocket)
	if err != nil {
		t.Fatal(err)
	}
	daemon := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		fmt.Fprintf(w, "the daemon's %s for %s", r.URL.Path, password)
	})}
	go func() { _ = daemon.Serve(ln) }()
	t.Cleanup(func() { daemon.Close() })
	for _, path := range []string{"/metrics", "/containers"} {
		if code, body := get(t, addr, path, ""); code != http.StatusUnauthorized || strings.Contains(body, "daemon's") {
			t.Errorf("%s without a password: %d\n%s", path, code, body)
		}
		if code, body := get(t, addr, path, hostile); code != http.StatusOK || body != "the daemon's "+path+" for "+hostile {
			t.Errorf("%s with the password: %d\n%s", path, code, body)
		}
	}
	for _, path := range []string{"/", "/metrics/haproxy", "/elsewhere"} {
		if code, body := get(t, addr, path, hostile); code != http.StatusOK || strings.Contains(body, "daemon's") || !strings.Contains(body, "mail") {
			t.Errorf("%s with the password: %d\n%s", path, code, body)
		}
	}
	if _, body := get(t, addr, "/", hostile); !strings.Contains(body, `process type web (<a href="/containers">its containers</a>)`) {
		t.Errorf("HAProxy's page does not lead to the containers:\n%s", body)
	}
}
