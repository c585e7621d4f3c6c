package haproxy_test

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/wait"
)

func TestEngine(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) deploy.Engine { return haproxytest.Start(t).Engine })
}

func TestOptions(t *testing.T) {
	enginetest.RunOptions(t, func(t *testing.T) deploy.Engine { return haproxytest.Start(t).Engine })
}

func TestTLS(t *testing.T) {
	enginetest.RunTLS(t, func(t *testing.T) deploy.Engine { return haproxytest.Start(t).Engine })
}

func TestSharedFrontends(t *testing.T) {
	enginetest.RunNames(t, func(t *testing.T) deploy.Engine { return haproxytest.Start(t).Engine })
}

const (
	user = "expose"
	// Every character that means something to HAProxy's configuration language, and one that does to HTTP.
	hostile = `it's "$HOME" # \ %[src] ; {} é:`
)

func withStats(t *testing.T) (netip.AddrPort, func(*haproxy.Config)) {
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), enginetest.FreePort(t))
	return addr, func(c *haproxy.Config) {
		c.StatsListen, c.StatsUser, c.StatsPassword = addr, user, hostile
	}
}

func TestConfigurationIsValid(t *testing.T) {
	_, stats := withStats(t)
	h := haproxytest.New(t, stats, func(c *haproxy.Config) {
		c.WorkerDeadline, c.TotalConnections = math.MaxInt64, deploy.MaxMaxConnections
	})
	v1 := enginetest.NewServer(t, "v1")
	noHold, noCheck := route("no-hold", port(t), v1), route("no-check", port(t), v1)
	noHold.Hold, noCheck.HealthCheck = 0, 0
	endless := route("endless", port(t), v1)
	endless.Hold, endless.HealthCheck = math.MaxInt64, math.MaxInt64
	six := route("six", deploy.Key{IP: netip.IPv6Unspecified(), Port: enginetest.FreePort(t)})
	six.Servers = []deploy.Server{{Addr: netip.MustParseAddrPort("[::1]:5025")}}
	limited := withOptions(t, route("limited", port(t), v1), "allow=10.0.0.0/8,2001:db8::/32 proxy-protocol=v2 accept-proxy=10.0.0.1,::1 "+
		"max-connections=1000000 rate=100000/10s idle-timeout=576h balance=source")
	noCheck = withOptions(t, noCheck, "proxy-protocol=v1 allow=none accept-proxy=::1 rate=1/10s balance=roundrobin")
	secure := withOptions(t, secured(t, port(t), v1, newCertificate(t)), "tls=terminate accept-proxy=::1 proxy-protocol=v2 idle-timeout=1m")
	secure.App, secure.Hold = "secure", math.MaxInt64
	err := h.Engine.Prepare(t.Context(), table(secure, route("mail", port(t), v1), noHold, noCheck, endless, six, limited, route(strings.Repeat("\xff", 255), port(t), v1)))
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(h.Config.Binary, "-c", "-f", h.Config.ConfigFile).CombinedOutput()
	if err != nil || strings.Contains(string(output), "WARNING") {
		t.Errorf("%v\n%s", err, output)
	}
	info, err := os.Stat(h.Config.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o640 {
		t.Errorf("the file's mode is %o: others could read the password, or HAProxy's group could not", mode)
	}
}

func TestWordsWithControlCharacters(t *testing.T) {
	for _, password := range []string{"two\nlines", "nul\x00", strings.Repeat("long", 1000), ""} {
		_, stats := withStats(t)
		h := haproxytest.New(t, stats, func(c *haproxy.Config) { c.StatsPassword = password })
		if err := h.Engine.Prepare(t.Context(), deploy.Table{}); err == nil || !strings.Contains(err.Error(), "password") {
			t.Errorf("password %.20q: got %v", password, err)
		}
	}
}

func TestStatsPage(t *testing.T) {
	addr, stats := withStats(t)
	h := haproxytest.Start(t, stats)
	apply(t, h, route("mail", port(t), enginetest.NewServer(t, "v1")))
	if got := status(t, h).Stats; got != addr {
		t.Errorf("the page is said to listen on %s, not %s", got, addr)
	}
	paths := []string{"/", "/;csv", "/elsewhere"}
	if version, err := exec.Command(h.Config.Binary, "-vv").Output(); err == nil && strings.Contains(string(version), "prometheus-exporter") {
		paths = append(paths, "/metrics")
	}
	for _, path := range paths {
		if code, body := get(t, addr, path, ""); code != http.StatusUnauthorized || strings.Contains(body, "mail") {
			t.Errorf("%s without a password: %d\n%s", path, code, body)
		}
		if code, body := get(t, addr, path, hostile); code != http.StatusOK || !strings.Contains(body, "mail") {
			t.Errorf("%s with the password: %d\n%s", path, code, body)
		}
	}
	text, err := h.Engine.ShowConfig(t.Context())
	if err != nil || strings.Contains(string(text), "HOME") || !strings.Contains(string(text), "listen mail:") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestStatsPageWhosePortIsTaken(t *testing.T) {
	addr, stats := withStats(t)
	ln := occupy(t, deploy.Key{Port: addr.Port()})
	h := haproxytest.Start(t, stats)
	v1, mail := enginetest.NewServer(t, "v1"), port(t)
	apply(t, h, route("mail", mail, v1))
	answers(t, mail, "v1")
	if got := status(t, h).Stats; got.IsValid() {
		t.Errorf("the page is said to listen on %s", got)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	apply(t, h, route("mail", mail, v1))
	if code, _ := get(t, addr, "/", hostile); code != http.StatusOK {
		t.Errorf("%d", code)
	}
	if applied := apply(t, h, route("mail", mail, v1)); applied.Reload != "" {
		t.Errorf("reload: %s", applied.Reload)
	}
}

func TestStatsPageKeepsItsPort(t *testing.T) {
	addr, stats := withStats(t)
	h := haproxytest.Start(t, stats)
	page := deploy.Key{Port: addr.Port()}
	_, err := h.Engine.Apply(t.Context(), table(route("mail", page, enginetest.NewServer(t, "v1"))))
	wantRouteError(t, err, "mail", page, "statistics page")
}

// A worker that still has connections stays, until they end or its time is over.
func TestOldWorkers(t *testing.T) {
	for _, c := range []struct {
		name     string
		deadline time.Duration
		end      func(t *testing.T, held net.Conn)
	}{
		{"until its connections end", time.Hour, func(t *testing.T, held net.Conn) {
			if err := held.Close(); err != nil {
				t.Fatal(err)
			}
		}},
		{"until its deadline", time.Second, func(t *testing.T, held net.Conn) {
			if rest, err := io.ReadAll(held); len(rest) > 0 {
				t.Errorf("got %q, %v", rest, err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := haproxytest.Start(t, func(cfg *haproxy.Config) { cfg.WorkerDeadline = c.deadline })
			v1, mail := enginetest.NewServer(t, "v1"), port(t)
			apply(t, h, route("mail", mail, v1))
			held, greeting := connect(t, mail)
			if greeting != "v1" {
				t.Fatalf("%s answered", greeting)
			}
			worker := status(t, h).Worker
			if applied := apply(t, h, route("mail", mail, v1), route("news", port(t), v1)); applied.Reload == "" {
				t.Fatal("a new port came without a reload")
			}
			s := status(t, h)
			if s.Worker == worker || len(s.OldWorkers) != 1 || s.OldWorkers[0] != worker {
				t.Errorf("after a reload of worker %d: %+v", worker, s)
			}
			c.end(t, held)
			wait.Until(t, "the old worker ends", func() bool { return len(status(t, h).OldWorkers) == 0 })
		})
	}
}

func TestSwitchesKeepTheWorker(t *testing.T) {
	h := haproxytest.Start(t)
	mail := port(t)
	apply(t, h, route("mail", mail, enginetest.NewServer(t, "v0")))
	before := status(t, h)
	for i := range 20 {
		name := fmt.Sprintf("v%d", i+1)
		apply(t, h, route("mail", mail, enginetest.NewServer(t, name)))
		answers(t, mail, name)
	}
	if after := status(t, h); after.Worker != before.Worker || len(after.OldWorkers) > 0 {
		t.Errorf("before 20 switches %+v, after %+v", before, after)
	}
}

func TestThousandRoutes(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2, mail := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), port(t)
	var routes []deploy.Route
	for range 1000 {
		p := enginetest.FreePort(t)
		r := route(fmt.Sprintf("app%d", p), deploy.Key{Port: p}, v1)
		r.HealthCheck = 0 // the test is about HAProxy's configuration, not about its checks
		routes = append(routes, r)
	}
	timed := func(what string, routes []deploy.Route) deploy.Applied {
		began := time.Now()
		applied := apply(t, h, routes...)
		t.Logf("%s: %s", what, time.Since(began).Round(time.Millisecond))
		return applied
	}
	timed("1,000 new routes", routes)
	timed("one more", append(routes, route("mail", mail, v1)))
	if applied := timed("one switched", append(routes, route("mail", mail, v2))); applied.Reload != "" || len(applied.Switched) != 1 {
		t.Errorf("%+v", applied)
	}
	answers(t, mail, "v2")
	for i := range routes {
		routes[i] = route(routes[i].App, routes[i].Key, v2)
		routes[i].HealthCheck = 0
	}
	if applied := timed("1,000 switched", append(routes, route("mail", mail, v2))); applied.Reload != "" || len(applied.Switched) != 1000 {
		t.Errorf("reload %q, %d switched", applied.Reload, len(applied.Switched))
	}
	for _, r := range routes[:10] {
		answers(t, r.Key, "v2")
	}
	if applied := timed("nothing", append(routes, route("mail", mail, v2))); applied.Reload != "" || len(applied.Switched) != 0 {
		t.Errorf("%+v", applied)
	}
}

func route(app string, listen deploy.Key, servers ...*enginetest.Server) deploy.Route {
	r := deploy.Route{App: app, Process: "web", Key: listen, Hold: 10 * time.Second, HealthCheck: 2 * time.Second}
	for _, s := range servers {
		r.Servers = append(r.Servers, deploy.Server{Container: s.Name, Dyno: "web.1", Addr: s.Addr, Proven: true})
	}
	return r
}

func withOptions(t *testing.T, r deploy.Route, options string) deploy.Route {
	t.Helper()
	o, err := deploy.ParseOptions(options)
	if err != nil {
		t.Fatal(err)
	}
	r.Options = o
	return r
}

func table(routes ...deploy.Route) deploy.Table { return deploy.Table{Routes: routes} }

func apply(t *testing.T, h *haproxytest.HAProxy, routes ...deploy.Route) deploy.Applied {
	t.Helper()
	applied, err := h.Engine.Apply(t.Context(), table(routes...))
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

// connect opens a connection to a public port, and returns the name of who greets.
func connect(t *testing.T, l deploy.Key) (net.Conn, string) {
	t.Helper()
	conn := open(t, l)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(line, " ")
	return conn, name
}

// answers wants a new connection to be answered by name.
func answers(t *testing.T, l deploy.Key, name string) {
	t.Helper()
	conn, got := connect(t, l)
	_ = conn.Close()
	if got != name {
		t.Errorf("%s answered on port %s, want %s", got, l, name)
	}
}

func get(t *testing.T, addr netip.AddrPort, path, password string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr.String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if password != "" {
		request.SetBasicAuth(user, password)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// command sends a command to HAProxy's stats socket, as an operator could, and returns the answer.
func command(t *testing.T, h *haproxytest.HAProxy, line string) string {
	t.Helper()
	conn, err := net.Dial("unix", h.Config.StatsSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, line); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || strings.Contains(string(answer), "No such") {
		t.Fatalf("%s: %s, %v", line, answer, err)
	}
	return string(answer)
}

func kill(t *testing.T, pid int) { send(t, pid, syscall.SIGKILL) }

// reload is how a service manager asks for one.
func reload(t *testing.T, master int) { send(t, master, syscall.SIGUSR2) }

func send(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}
