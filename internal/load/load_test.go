package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dokku-expose/internal/need"
	"dokku-expose/internal/netns"
	"dokku-expose/internal/wait"
)

// server is a public address in the hands of a test: handle says what happens to each connection.
type server struct {
	addr netip.AddrPort

	mu     sync.Mutex
	handle func(*net.TCPConn)
	turn   int              // how often handle has changed
	conns  map[net.Conn]int // the turn that each came in
}

func listen(t *testing.T, handle func(*net.TCPConn)) *server {
	t.Helper()
	ln, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	s := &server{addr: netip.AddrPortFrom(loopback, ln.Addr().(*net.TCPAddr).AddrPort().Port()), handle: handle, conns: make(map[net.Conn]int)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			handle := s.handle
			s.conns[conn] = s.turn
			s.mu.Unlock()
			serving.Go(func() {
				handle(conn.(*net.TCPConn))
				s.mu.Lock()
				delete(s.conns, conn)
				s.mu.Unlock()
				conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		s.become(func(*net.TCPConn) {})
		s.closeOld()
		serving.Wait()
	})
	return s
}

// become changes what happens to new connections.
func (s *server) become(handle func(*net.TCPConn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle = handle
	s.turn++
}

// closeOld ends the connections that came before the last become.
func (s *server) closeOld() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn, turn := range s.conns {
		if turn < s.turn {
			conn.Close()
		}
	}
}

// app is what the test app does.
func app(version, container string) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		fmt.Fprintf(conn, "%s %s 5025\n", version, container)
		_, _ = io.Copy(conn, conn)
	}
}

const (
	c1 = "c1c1c1c1c1c1"
	c2 = "c2c2c2c2c2c2"
	// The rest of a full container id, of which a greeting has only the first twelve digits.
	rest = "0123456789012345678901234567890123456789012345678901"
)

func start(t *testing.T, cfg Config) *Load {
	t.Helper()
	l, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.cut(); l.Stop() })
	return l
}

func await(t *testing.T, l *Load, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	if err := l.Await(ctx, n); err != nil {
		t.Fatal(err)
	}
}

// until waits for something that clients will see.
func until(t *testing.T, l *Load, what string, ok func(Report) bool) Report {
	t.Helper()
	for began := time.Now(); time.Since(began) < wait.Patience; runtime.Gosched() {
		if r := l.Report(); ok(r) {
			return r
		}
	}
	t.Fatalf("never saw: %s", what)
	return Report{}
}

func TestAGoodSwitchHasNoFailures(t *testing.T) {
	s := listen(t, app("v1", c1))
	l := start(t, Config{Addr: s.addr, Openers: 1, Holders: 3, HoldInterval: time.Millisecond})
	l.Mark("v1")
	l.Phase("v1 serves")
	await(t, l, 50)
	l.Phase("the deploy")
	s.become(app("v2", c2))
	l.Mark("v2")
	l.Retired(c1+rest, 0)
	l.Phase("v2 serves")
	await(t, l, 50)
	s.closeOld() // the old container's end; the opener has long been on v2
	until(t, l, "the holders on v2", func(r Report) bool { return r.Holding["v2"] == 3 && r.Holding["v1"] == 0 })
	r := l.Stop()

	if r.Failed() != 0 || len(r.Failures) != 0 {
		t.Errorf("%d failed: %v", r.Failed(), r.Failures)
	}
	if want := (Held{Opened: 6, Open: 3, Ended: 3}); r.Held != want {
		t.Errorf("held %+v, want %+v", r.Held, want)
	}
	if len(r.Versions) != 2 || r.Versions[0].Name != "v1" || r.Versions[1].Name != "v2" || r.Versions[1].Answers < 50 {
		t.Errorf("versions %+v", r.Versions)
	}
	if r.Containers[c1] != r.Versions[0].Answers || r.Containers[c2] != r.Versions[1].Answers {
		t.Errorf("containers %v, versions %+v", r.Containers, r.Versions)
	}
	sum := 0
	for _, p := range r.Phases {
		sum += p.Tried
	}
	if sum != r.Tried || r.Tried != r.Answered+r.Ended+r.Failed() {
		t.Errorf("tried %d; by phase %d; answered %d, ended %d, failed %d", r.Tried, sum, r.Answered, r.Ended, r.Failed())
	}
}

func TestWhatGoesWrong(t *testing.T) {
	for _, test := range []struct {
		name   string
		handle func(*net.TCPConn) // nil: nobody listens
		count  func(Report) int
	}{
		{"refused", nil, func(r Report) int { return r.Refused }},
		{"reset", func(c *net.TCPConn) { _ = c.SetLinger(0) }, func(r Report) int { return r.Reset }},
		{"closed before the greeting", func(*net.TCPConn) {}, func(r Report) int { return r.ClosedEarly }},
		{"half a greeting", func(c *net.TCPConn) { fmt.Fprint(c, "v1 c1") }, func(r Report) int { return r.ClosedEarly }},
		{"no greeting", func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }, func(r Report) int { return r.TimedOut }},
		{"no app", func(c *net.TCPConn) { fmt.Fprint(c, "220 mail.example.org ESMTP ready\n") }, func(r Report) int { return r.Garbled }},
		{"closed after the greeting", func(c *net.TCPConn) {
			fmt.Fprint(c, "v1 c1 25\n")
			_, _ = bufio.NewReader(c).ReadString('\n') // nothing unread, which would make a reset of the close
		}, func(r Report) int { return r.Cut }},
		{"another echo", func(c *net.TCPConn) {
			fmt.Fprint(c, "v1 c1 25\nsomething else\n")
			_, _ = io.Copy(io.Discard, c)
		}, func(r Report) int { return r.Garbled }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := listen(t, test.handle)
			addr := s.addr
			if test.handle == nil {
				ln, err := net.Listen("tcp4", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				addr = ln.Addr().(*net.TCPAddr).AddrPort()
				ln.Close()
			}
			cfg := Config{Addr: addr, Openers: 1}
			if test.name == "no greeting" {
				cfg.Timeout = 100 * time.Millisecond
			}
			l := start(t, cfg)
			until(t, l, test.name, func(r Report) bool { return r.Tried >= 2 })
			r := l.Stop()
			if n := test.count(r); n != r.Tried || r.Failed() != r.Tried || len(r.Failures) == 0 {
				t.Errorf("%d of %d counted as %s: %+v %v", n, r.Tried, test.name, r.Counts, r.Failures)
			}
		})
	}
}

func TestStale(t *testing.T) {
	t.Run("an old version's answer", func(t *testing.T) {
		s := listen(t, app("v1", c1))
		l := start(t, Config{Addr: s.addr, Openers: 1})
		await(t, l, 1)
		l.Mark("v2") // though nothing was switched
		until(t, l, "a stale answer", func(r Report) bool { return r.Stale > 0 && r.Failed() == r.Stale })
	})
	t.Run("the version marked before, never seen", func(t *testing.T) {
		s := listen(t, app("v1", c1))
		l := start(t, Config{Addr: s.addr})
		l.Mark("v1")
		l.Mark("v2")
		l.clients.Go(func() { l.open(l.dialLocal) })
		until(t, l, "a stale answer", func(r Report) bool { return r.Stale > 0 })
	})
	t.Run("a retired container of the same version", func(t *testing.T) {
		s := listen(t, app("v1", c1))
		l := start(t, Config{Addr: s.addr, Openers: 1})
		await(t, l, 1)
		l.Mark("v1")
		l.Retired(c1+rest, time.Hour)
		until(t, l, "a stale answer", func(r Report) bool { return r.Stale > 0 })
	})
	t.Run("a version that is current again is not stale", func(t *testing.T) {
		s := listen(t, app("v1", c1))
		l := start(t, Config{Addr: s.addr, Openers: 1})
		await(t, l, 1)
		s.become(app("v2", c2))
		l.Mark("v2")
		await(t, l, 5)
		s.become(app("v1", "c3c3c3c3c3c3"))
		l.Mark("v1")
		await(t, l, 5)
		if r := l.Stop(); r.Failed() != 0 {
			t.Errorf("%d failed: %v", r.Failed(), r.Failures)
		}
	})
	t.Run("the next version may answer before its mark", func(t *testing.T) {
		s := listen(t, app("v1", c1))
		l := start(t, Config{Addr: s.addr, Openers: 1})
		l.Mark("v1")
		await(t, l, 1)
		s.become(app("v2", c2))
		await(t, l, 5)
		if r := l.Stop(); r.Failed() != 0 {
			t.Errorf("%d failed: %v", r.Failed(), r.Failures)
		}
	})
}

func TestHeldConnectionThatEnds(t *testing.T) {
	for _, test := range []struct {
		name  string
		grace time.Duration
		tell  bool
		want  Held
	}{
		{"by its own container after the grace", 0, true, Held{Opened: 2, Open: 1, Ended: 1}},
		{"within the grace, when its container was still there", time.Hour, true, Held{Opened: 2, Open: 1, Broken: 1}},
		{"though its container was not stopped", 0, false, Held{Opened: 2, Open: 1, Broken: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := listen(t, app("v1", c1))
			l := start(t, Config{Addr: s.addr, Holders: 1, HoldInterval: time.Millisecond})
			if test.tell {
				l.Retired(c1+rest, test.grace)
			}
			s.become(app("v1", c2))
			s.closeOld()
			until(t, l, "a new held connection", func(r Report) bool { return r.Held.Opened == 2 })
			if r := l.Stop(); r.Held != test.want || (len(r.Failures) > 0) != (test.want.Broken > 0) {
				t.Errorf("held %+v, want %+v; failures %v", r.Held, test.want, r.Failures)
			}
		})
	}
}

func TestOpenerEndedByItsContainer(t *testing.T) {
	accepted := make(chan struct{}, 1)
	s := listen(t, func(c *net.TCPConn) {
		fmt.Fprintf(c, "v1 %s 25\n", c1)
		accepted <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
	})
	l := start(t, Config{Addr: s.addr, Openers: 1})
	<-accepted // it waits for its echo
	s.become(app("v1", c2))
	l.Retired(c1+rest, 0)
	s.closeOld()
	await(t, l, 1)
	if r := l.Stop(); r.Ended != 1 || r.Failed() != 0 {
		t.Errorf("ended %d, failed %d: %v; want 1 and 0", r.Ended, r.Failed(), r.Failures)
	}
}

func TestStartNeedsItsHolders(t *testing.T) {
	s := listen(t, func(*net.TCPConn) {})
	_, err := Start(t.Context(), Config{Addr: s.addr, Holders: 2})
	if err == nil || !strings.Contains(err.Error(), "2 of 2 held connections to "+s.addr.String()) {
		t.Errorf("error %v", err)
	}
	if _, err := Start(t.Context(), Config{}); err == nil {
		t.Error("started with no address")
	}
}

func TestEndOfContextIsNobodysFailure(t *testing.T) {
	s := listen(t, app("v1", c1))
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Start(ctx, Config{Addr: s.addr, Openers: 4, Holders: 2})
	if err != nil {
		t.Fatal(err)
	}
	await(t, l, 10)
	// Connections that would wait for ever are cut too.
	s.become(func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	cancel()
	r := l.Stop()
	if r.Failed() != 0 || r.Held.Broken != 0 {
		t.Errorf("%s: %v", r.Summary(), r.Failures)
	}
	if err := l.Await(t.Context(), 1); err == nil {
		t.Error("waited for answers of a load that has ended")
	}
}

func TestSourcesAreSpread(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[string]bool)
	s := listen(t, func(c *net.TCPConn) {
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		mu.Lock()
		seen[host] = true
		mu.Unlock()
		app("v1", c1)(c)
	})
	l := start(t, Config{Addr: s.addr, Openers: 1})
	await(t, l, 300)
	l.Stop()
	if len(seen) < 300 {
		t.Errorf("%d client addresses for 300 connections", len(seen))
	}
	for _, other := range []string{"[::1]:25", "192.0.2.1:25"} {
		if a := (&Load{cfg: Config{Addr: netip.MustParseAddrPort(other)}}).source(); a != nil {
			t.Errorf("source for %s is %s, want the system's choice", other, a)
		}
	}
}

// Every second client is on another host, and closes with a FIN where the others reset.
func TestRemoteClients(t *testing.T) {
	if !need.Namespaces(t) {
		t.Skip("no client can be on another host")
	}
	remote, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remote.Close(); err != nil {
			t.Error(err)
		}
	})
	var mu sync.Mutex
	var here, there []error // how connections of clients on this host and on the other one end
	s := listen(t, func(c *net.TCPConn) {
		fmt.Fprintf(c, "v1 %s 5025\n", c1)
		_, err := io.Copy(c, c)
		mu.Lock()
		defer mu.Unlock()
		if c.RemoteAddr().(*net.TCPAddr).IP.IsLoopback() {
			here = append(here, err)
		} else {
			there = append(there, err)
		}
	})
	l := start(t, Config{Addr: s.addr, Remote: remote, Openers: 2, Holders: 2})
	for enough := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(here) > 5 && len(there) > 5
	}; !enough(); {
		await(t, l, 1)
	}
	if r := l.Stop(); r.Failed() > 0 || r.Held.Opened != 2 || r.Held.Broken > 0 {
		t.Errorf("%s: %v", r.Summary(), r.Failures)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.ContainsFunc(here, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }) {
		t.Errorf("no client on this host resets its connections: %v", here)
	}
	for _, err := range there {
		if err != nil {
			t.Errorf("a connection of the other host ends with %v, want a FIN", err)
		}
	}
}

func TestPrint(t *testing.T) {
	r := Report{
		Counts: Counts{Tried: 30, Answered: 28, Refused: 1, Stale: 1},
		Phases: []Phase{
			{Name: "v1 serves", Counts: Counts{Tried: 10, Answered: 10}, Answers: map[string]int{"v1": 10}, Slowest: 1234 * time.Microsecond},
			{Name: "deploy of v2", Counts: Counts{Tried: 20, Answered: 18, Refused: 1, Stale: 1}, Answers: map[string]int{"v1": 9, "v2": 10}, Slowest: 2 * time.Second},
		},
		Versions: []Version{{Name: "v1"}, {Name: "v2"}},
		Held:     Held{Opened: 100, Open: 50, Ended: 49, Broken: 1},
		Failures: []Failure{{Phase: "deploy of v2", Began: 1500 * time.Millisecond, Took: time.Millisecond, What: refused.String(), Err: io.EOF}},
	}
	const want = `  tried  failed  slowest  v1  v2  phase
     10       0    1.2ms  10   0  v1 serves
     20       2       2s   9  10  deploy of v2
held connections: 100 opened, 50 open to the end, 49 ended by their own container, 1 broken
failed: 1 refused, 0 reset, 0 closed before the greeting, 0 closed after it, 0 timed out, 0 garbled, 0 on the client's own side, 1 answered by an old container
  deploy of v2: began at 1.500s, refused after 1ms (no greeting): EOF
`
	var got bytes.Buffer
	if err := r.Print(&got); err != nil || got.String() != want {
		t.Errorf("error %v\ngot\n%s\nwant\n%s", err, got.String(), want)
	}
	if got, want := r.Summary(), "30 connections tried, 2 failed, 50 held open, 1 broken"; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
}
