package haproxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/wait"
)

// A connection that is held goes from worker to worker, and to more of them than there are addresses to hold at.
func TestHeldThroughManyReloads(t *testing.T) {
	h := haproxytest.Start(t)
	mail := route("mail", port(t))
	mail.Hold = time.Minute
	apply(t, h, mail)
	conn := open(t, mail.Key)
	for i := range 40 {
		applied := apply(t, h, mail, route(fmt.Sprint("news", i), port(t)))
		if applied.Reload == "" {
			t.Fatal("no reload")
		}
		// Faster than a held connection tries again, which it does each second.
		if i%8 == 7 {
			wait.Until(t, "the newest worker holds the connection", func() bool { return backendSessions(t, h, mail) == 1 })
		}
	}
	mail.Servers = route("mail", mail.Key, enginetest.NewServer(t, "v1")).Servers
	apply(t, h, mail)
	if err := conn.SetDeadline(time.Now().Add(wait.Patience)); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := strings.Cut(firstLine(t, conn), " "); got != "v1" {
		t.Errorf("%s answered", got)
	}
}

// Clients go on coming while workers take each other's place: none of those that wait is lost in between.
func TestHeldWhileReloading(t *testing.T) {
	h := haproxytest.Start(t)
	mail := route("mail", port(t))
	mail.Hold = time.Minute
	apply(t, h, mail)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	held := make(chan net.Conn, 1_000)
	go func() {
		defer close(held)
		for ctx.Err() == nil && len(held) < cap(held) {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", mail.Key.Port))
			if err != nil {
				t.Error(err)
				return
			}
			held <- conn
			time.Sleep(10 * time.Millisecond) // a client's pace
		}
	}()
	for i := range 8 {
		apply(t, h, mail, route(fmt.Sprint("news", i), port(t)))
	}
	mail.Servers = route("mail", mail.Key, enginetest.NewServer(t, "v1")).Servers
	apply(t, h, mail)
	stop()
	n, broken := 0, 0
	for conn := range held {
		n++
		if err := conn.SetDeadline(time.Now().Add(wait.Patience)); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, "v1 ") {
			broken++
			t.Logf("%q, %v", line, err)
		}
		_ = conn.Close()
	}
	if n == 0 || broken > 0 {
		t.Errorf("%d of %d connections that were held have got no answer", broken, n)
	}
}

// Whoever does not know a route's token gets nowhere where workers take over what others hold.
func TestTakeoverIsClosed(t *testing.T) {
	h := haproxytest.Start(t, func(c *haproxy.Config) { c.StatsPassword = "secret" })
	v1 := enginetest.NewServer(t, "v1")
	mail, news := route("mail", port(t), v1), route("news", port(t), v1)
	news.Hold = 0
	apply(t, h, mail, news)
	text := file(t, h)
	addr := regexp.MustCompile(`bind (127[0-9.:]+),`).FindStringSubmatch(text)
	tokens := regexp.MustCompile(`unique-id-format ([0-9a-f]+)\n`).FindAllStringSubmatch(text, -1)
	if addr == nil || len(tokens) != 1 {
		t.Fatalf("the configuration has no place to take over, or not one token:\n%s", text)
	}
	token := tokens[0][1]
	for _, c := range []struct{ name, token, want string }{
		{"its token", token, "v1"},
		{"another token", strings.Repeat("0", len(token)), ""},
		{"an empty token", "", ""},
	} {
		conn, err := net.Dial("tcp", addr[1])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		// PROXY protocol 2: TCP over IPv4, 203.0.113.1:9 to 203.0.113.2:25, and the unique id.
		header := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00" + string(rune(12+3+len(c.token))) + "\xcb\x00\x71\x01\xcb\x00\x71\x02\x00\x09\x00\x19\x05\x00" + string(rune(len(c.token))) + c.token
		if _, err := io.WriteString(conn, header); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(wait.Patience)); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if got, _, _ := strings.Cut(line, " "); got != c.want || c.want == "" && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("with %s: got %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

// Without a place for it nothing is taken over, and all else goes on; when there is one, it is used.
func TestTakeoverWhosePortIsTaken(t *testing.T) {
	h := haproxytest.New(t)
	addrs := h.Engine.HoldAddrs()
	ln, err := net.Listen("tcp", addrs[len(addrs)-1].String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := h.Engine.Prepare(t.Context(), deploy.Table{}); err != nil {
		t.Fatal(err)
	}
	h.Start()
	mail, v1 := route("mail", port(t)), enginetest.NewServer(t, "v1")
	apply(t, h, mail)
	conn := open(t, mail.Key)
	mail.Servers = route("mail", mail.Key, v1).Servers
	apply(t, h, mail)
	if got, _, _ := strings.Cut(firstLine(t, conn), " "); got != "v1" {
		t.Errorf("%s answered", got)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	apply(t, h, mail)
	if applied := apply(t, h, mail); applied.Reload != "" {
		t.Errorf("reload: %s", applied.Reload)
	}
	if !strings.Contains(file(t, h), "frontend takeover") {
		t.Error("there is room to take over, and it is not used")
	}
}

func TestTakeoverPortIsRefused(t *testing.T) {
	h := haproxytest.Start(t)
	for _, listen := range []deploy.Key{{Port: 1028}, {IP: netip.IPv4Unspecified(), Port: 1028}} {
		_, err := h.Engine.Apply(t.Context(), table(route("one", listen, enginetest.NewServer(t, "v1"))))
		wantRouteError(t, err, "one", listen, "choose another public port")
	}
	elsewhere := deploy.Key{IP: netip.MustParseAddr("127.0.0.1"), Port: 1028}
	if err := h.Engine.Supports(deploy.Route{Key: elsewhere}); err != nil {
		t.Error(err)
	}
}

// open connects to a public port on which nobody greets yet.
func open(t *testing.T, l deploy.Key) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.Port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(wait.Patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func firstLine(t *testing.T, conn net.Conn) string {
	t.Helper()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// backendSessions is how many connections the running worker has for a route, held or served.
func backendSessions(t *testing.T, h *haproxytest.HAProxy, r deploy.Route) int {
	t.Helper()
	for line := range strings.Lines(command(t, h, "show stat -1 2 -1")) {
		if fields := strings.Split(line, ","); fields[0] == fmt.Sprintf("%s:%d", r.App, r.Key.Port) {
			n, err := strconv.Atoi(fields[4]) // scur
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("HAProxy has no route of %s", r.App)
	return 0
}
