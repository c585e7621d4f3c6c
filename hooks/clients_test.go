package hooks_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"dokku-expose/internal/load"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/rig/rigtest"
	"dokku-expose/internal/wait"
)

// conn is a connection that was greeted.
type conn struct {
	net.Conn
	lines *bufio.Reader
	// version, container and private are who answered: the version, the id's first twelve digits, and the port there.
	version, container, private string
}

// dial connects to a public port and waits for the greeting.
func (h *host) dial(port uint16) (*conn, error) { return h.dialAt(loopback(port)) }

func (h *host) dialAt(address netip.AddrPort) (*conn, error) {
	c, err := net.Dial("tcp", address.String())
	if err != nil {
		return nil, err
	}
	h.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(wait.Patience)); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(c)
	greeting, err := lines.ReadString('\n')
	fields := strings.Fields(greeting)
	if err == nil && len(fields) != 3 {
		err = fmt.Errorf("the greeting is %q", greeting)
	}
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, lines: lines, version: fields[0], container: fields[1], private: fields[2]}, nil
}

// echo has one line sent back.
func (c *conn) echo() error {
	if _, err := fmt.Fprintln(c, "hello"); err != nil {
		return err
	}
	if line, err := c.lines.ReadString('\n'); err != nil || line != "hello\n" {
		return fmt.Errorf("the echo is %q: %w", line, err)
	}
	return nil
}

// load lets clients, half of them on another host, connect to a public port until judge, or the test's end.
func (h *host) load(port uint16, openers, holders int) *load.Load {
	h.t.Helper()
	return h.loadAt(load.Config{Addr: loopback(port), Remote: rigtest.ClientHost(h.t), Openers: openers, Holders: holders})
}

func (h *host) loadAt(config load.Config) *load.Load {
	h.t.Helper()
	config.Timeout = wait.Patience
	// Without a pause the clients would take the machine that everything else runs on, too.
	config.Pause = 5 * time.Millisecond
	l, err := load.Start(h.t.Context(), config)
	h.must(err)
	h.t.Cleanup(func() { l.Stop() })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loads = append(h.loads, l)
	return l
}

// switched tells the load that version is current, at the moment when post-deploy has returned.
func switched(l *load.Load, version string) rig.Option {
	return rig.After(func(c rig.Call, r rig.Result) {
		if c.Name == "post-deploy" && r.Code == 0 {
			l.Mark(version)
		}
	})
}

// seen waits until clients have had n more answers.
func (h *host) seen(l *load.Load, n int) {
	h.t.Helper()
	h.must(l.Await(h.t.Context(), n))
}

// judge ends the load: no connection may have failed, and none may have been broken while its container lived.
func (h *host) judge(l *load.Load) load.Report {
	h.t.Helper()
	r := l.Stop()
	if r.Failed() > 0 || r.Held.Broken > 0 || r.Answered == 0 {
		var table strings.Builder
		h.must(r.Print(&table))
		h.t.Errorf("%s\n%s", r.Summary(), &table)
	}
	return r
}
