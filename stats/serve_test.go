package stats

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/wait"
)

const (
	user, password = "expose", "it's a: password"
)

// hostile is a name with all that means something to HTML and to Prometheus.
const hostile = `<script>alert("1")</script>&'"\` + "\n{}\xff"

func observed() deploy.Observation {
	n, two := uint64(3), uint64(2)
	return deploy.Observation{
		Engine: "builtin", Version: "1.2.3", Since: time.Now().Add(-26 * time.Hour), MaxConnections: 65000,
		Switches: &deploy.Switches{Count: 7, Seconds: 0.25}, Reloads: &n,
		Old: []deploy.Process{{PID: 4711, Connections: 5}},
		Routes: []deploy.RouteState{
			{
				App: "mail", Process: "web", Key: deploy.Key{Port: 25}, Listening: true, Total: 12345, Failed: 1, In: 5 << 20, Out: 1 << 30,
				Unserved: &two, Drained: &n, Switched: time.Now().Add(-3 * time.Minute),
				Servers: []deploy.ServerState{
					{Dyno: "web.1", Container: "8be4d1c5a9608be4d1c5a960", Addr: netip.MustParseAddrPort("172.17.0.2:5025"), Old: true, Up: true, Connections: 4, Counts: &deploy.Counts{Total: 12000}},
					{Dyno: "web.1", Container: "1f0c9a2b7d3e1f0c9a2b7d3e", Addr: netip.MustParseAddrPort("172.17.0.3:5025"), Up: true, Connections: 20, Counts: &deploy.Counts{Total: 345}},
					{Dyno: "web.2", Container: "aaaaaaaaaaaaaaaaaaaaaaaa", Addr: netip.MustParseAddrPort("172.17.0.4:5025"), Counts: &deploy.Counts{Failed: 1}},
				},
			},
			{App: "mail", Process: "imap", Key: deploy.Key{Port: 993}, Listening: true, Held: 6, CertificateEnds: time.Unix(1893456000, 0), Options: deploy.Options{TLS: deploy.TerminateTLS}, HandshakesFailed: 7, TLSVersions: map[string]uint64{"TLSv1.2": 3, "TLSv1.3": 20}},
			{App: "dns", Process: "web", Key: deploy.Key{Proto: deploy.UDP, Port: 53}, Listening: true, Datagrams: &deploy.Datagrams{In: 9, Out: 8, Dropped: map[string]uint64{"rate": 2, "allow": 0}}},
			{App: "gone", Key: deploy.Key{IP: netip.MustParseAddr("127.0.0.1"), Port: 5432}, Servers: []deploy.ServerState{{Addr: netip.MustParseAddrPort("172.17.0.9:5432"), Old: true, Connections: 1}}},
			{App: hostile, Process: hostile, Key: deploy.Key{Port: 26}, Listening: true, Servers: []deploy.ServerState{{Dyno: hostile, Container: hostile}}},
		},
	}
}

// options are for a page on a free port.
func options(t testing.TB) Options {
	return Options{
		Listen: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), enginetest.FreePort(t)),
		User:   user, Password: password,
		Observe:  func(context.Context) (deploy.Observation, error) { return observed(), nil },
		Counters: NewCounters(),
		Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// start serves the page until the test ends, or stop is called.
func start(t testing.TB, o Options) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, o) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// ask makes one request on a connection of its own, and tries again until somebody listens.
func ask(t testing.TB, o Options, method, path string, change ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: wait.Patience}
	var response *http.Response
	wait.Until(t, "the page answers", func() bool {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+o.Listen.String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth(user, password)
		for _, c := range change {
			c(request)
		}
		response, err = client.Do(request)
		return err == nil
	})
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func TestOnlyTheLoginOpensThePage(t *testing.T) {
	o := options(t)
	start(t, o)
	for name, login := range map[string]func(*http.Request){
		"none":            func(r *http.Request) { r.Header.Del("Authorization") },
		"wrong password":  func(r *http.Request) { r.SetBasicAuth(user, password+" ") },
		"empty password":  func(r *http.Request) { r.SetBasicAuth(user, "") },
		"wrong user":      func(r *http.Request) { r.SetBasicAuth("root", password) },
		"another scheme":  func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+password) },
		"no base64":       func(r *http.Request) { r.Header.Set("Authorization", "Basic "+password) },
		"in the address":  func(r *http.Request) { r.Header.Del("Authorization"); r.URL.RawQuery = "password=" + "x" },
		"another's realm": func(r *http.Request) { r.SetBasicAuth(strings.ToUpper(user), password) },
	} {
		for _, path := range []string{"/", "/metrics", "/nothing"} {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
				response, body := ask(t, o, method, path, login)
				if response.StatusCode != http.StatusUnauthorized || response.Header.Get("WWW-Authenticate") == "" || strings.Contains(body, "mail") {
					t.Errorf("%s: %s %s: %s\n%s", name, method, path, response.Status, body)
				}
			}
		}
	}
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{http.MethodGet, "/", http.StatusOK},
		{http.MethodHead, "/", http.StatusOK},
		{http.MethodGet, "/containers", http.StatusOK},
		{http.MethodGet, "/metrics", http.StatusOK},
		{http.MethodGet, "/nothing", http.StatusNotFound},
		{http.MethodGet, "/metrics/", http.StatusNotFound},
		{http.MethodPost, "/", http.StatusMethodNotAllowed},
		{http.MethodDelete, "/metrics", http.StatusMethodNotAllowed},
		{http.MethodOptions, "/", http.StatusMethodNotAllowed},
	} {
		if response, body := ask(t, o, c.method, c.path); response.StatusCode != c.code {
			t.Errorf("%s %s: %s, want %d\n%s", c.method, c.path, response.Status, c.code, body)
		}
	}
}

func TestPageShowsTheObservation(t *testing.T) {
	o := options(t)
	start(t, o)
	response, body := ask(t, o, http.MethodGet, "/")
	for _, want := range []string{
		"engine builtin 1.2.3", "counting for 26 h", "31 connections",
		">25</th>", "12,345", "5.0 MiB", "1.0 GiB", "3 min ago", "web.1 <code>1f0c9a2b7d3e</code>", "172.17.0.3:5025",
		`class="state serving"`, `class="state held"`, `class="state closed"`, `class="state ready"`, `class="state down"`, `class="state draining"`,
		"6 waiting", `<span class="error">2</span> not served`, "pid 4711 (5)", `http-equiv="refresh"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	for _, bad := range []string{"<script", "alert(\"", "http://", "https://", "ZgotmplZ"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if csp := response.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") {
		t.Errorf("the policy is %q", csp)
	}
	if t.Failed() {
		t.Log(body)
	}
}

func TestEngineThatCantBeAsked(t *testing.T) {
	o := options(t)
	o.Observe = func(context.Context) (deploy.Observation, error) {
		return deploy.Observation{}, errors.New("the daemon is <b>gone</b>")
	}
	start(t, o)
	response, body := ask(t, o, http.MethodGet, "/")
	if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "the daemon is &lt;b&gt;gone") || !strings.Contains(body, `http-equiv="refresh"`) {
		t.Errorf("%s\n%s", response.Status, body)
	}
	response, body = ask(t, o, http.MethodGet, "/metrics")
	if response.StatusCode != http.StatusOK || !strings.Contains(body, "\ndokku_expose_up 0\n") || !strings.Contains(body, "\ndokku_expose_heals_total 0\n") {
		t.Errorf("%s\n%s", response.Status, body)
	}
}

// What can't be found out keeps nobody from what is known.
func TestObservationInPart(t *testing.T) {
	o := options(t)
	o.Observe = func(context.Context) (deploy.Observation, error) {
		f := observed()
		f.Warning = "Docker <b>is gone</b>"
		return f, nil
	}
	start(t, o)
	response, body := ask(t, o, http.MethodGet, "/")
	if response.StatusCode != http.StatusOK || !strings.Contains(body, "Docker &lt;b&gt;is gone") || !strings.Contains(body, "12,345") {
		t.Errorf("%s\n%s", response.Status, body)
	}
	if _, body = ask(t, o, http.MethodGet, "/metrics"); !strings.Contains(body, "\ndokku_expose_up 1\n") || !strings.Contains(body, " 12345\n") {
		t.Error(body)
	}
}

// Clients that never say what they want, as many as there may be, do not keep others out for longer than their time.
func TestSlowClientsDoNotHoldThePage(t *testing.T) {
	t.Parallel()
	o := options(t)
	start(t, o)
	ask(t, o, http.MethodGet, "/")
	for range 2 * maxClients {
		conn, err := net.Dial("tcp", o.Listen.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		// A byte now and then does not make the time longer.
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: page\r\n")
			for ctx.Err() == nil {
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
					_, _ = io.WriteString(conn, "X: y\r\n")
				}
			}
		}()
	}
	if response, _ := ask(t, o, http.MethodGet, "/"); response.StatusCode != http.StatusOK {
		t.Error(response.Status)
	}
}

func TestHugeRequestsAreRefused(t *testing.T) {
	o := options(t)
	start(t, o)
	huge := strings.Repeat("x", 1<<20)
	for name, change := range map[string]func(*http.Request){
		"header": func(r *http.Request) { r.Header.Set("X-Huge", huge) },
		"login":  func(r *http.Request) { r.SetBasicAuth(user, huge) },
		"path":   func(r *http.Request) { r.URL.Path = "/" + huge },
	} {
		ask(t, o, http.MethodGet, "/") // it listens
		conn, err := net.Dial("tcp", o.Listen.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		request, err := http.NewRequest(http.MethodGet, "http://page/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth(user, password)
		change(request)
		go func() { _ = request.Write(conn) }() // it is cut short
		response, err := http.ReadResponse(bufio.NewReader(conn), request)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		response.Body.Close()
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %s", name, response.Status)
		}
	}
}

// A page whose address is taken is there when the address is free: a daemon that takes over gets it from the one before it.
func TestAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	first := options(t)
	stop := start(t, first)
	ask(t, first, http.MethodGet, "/")

	var log logBuffer
	second := first
	second.Log = slog.New(slog.NewTextHandler(&log, nil))
	second.Observe = func(context.Context) (deploy.Observation, error) {
		return deploy.Observation{Version: "the second"}, nil
	}
	start(t, second)
	log.await(t, "address already in use")
	if _, body := ask(t, first, http.MethodGet, "/"); !strings.Contains(body, "1.2.3") {
		t.Errorf("the first one does not answer any more:\n%s", body)
	}
	stop()
	log.await(t, "level=INFO")
	if _, body := ask(t, second, http.MethodGet, "/"); !strings.Contains(body, "the second") {
		t.Errorf("the second one does not answer:\n%s", body)
	}
	if text := log.String(); strings.Count(text, "already in use") != 1 {
		t.Errorf("it is said more than once:\n%s", text)
	}
}

func TestOptionsThatOpenThePageToAll(t *testing.T) {
	for _, change := range []func(*Options){
		func(o *Options) { o.Password = "" },
		func(o *Options) { o.User = "" },
		func(o *Options) { o.Listen = netip.AddrPort{} },
	} {
		o := options(t)
		change(&o)
		if err := Serve(t.Context(), o); err == nil {
			t.Errorf("%+v was served", o)
		}
	}
}

// logBuffer is a log that can be waited for.
type logBuffer struct{ wait.Buffer }

func (b *logBuffer) await(t testing.TB, part string) {
	t.Helper()
	wait.Until(t, "the log has "+part, func() bool { return strings.Contains(b.String(), part) })
}

// An attempt to listen that fails must not keep the socket open: the next attempt comes a moment later, for as long as the cause lasts.
func TestListenKeepsNothingOfAFailedAttempt(t *testing.T) {
	// chmod finds no file for an abstract socket, which can be bound all the same.
	name := fmt.Sprintf("@dokku-expose-stats-%d", os.Getpid())
	if ln, err := listen(t.Context(), Options{Socket: name}); err == nil {
		t.Fatalf("it listens at %s with the mode of nobody", ln.Addr())
	}
	ln, err := net.Listen("unix", name)
	if err != nil {
		t.Fatalf("somebody listens at the socket still: %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
}
