package haproxy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/deploy/listeners"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/wait"
)

func TestNotRunning(t *testing.T) {
	h := haproxytest.New(t)
	v1, listen := enginetest.NewServer(t, "v1"), port(t)
	if serving := serving(t, h); len(serving) != 0 {
		t.Errorf("serving %v", serving)
	}
	if status, err := h.Engine.Status(t.Context()); err != nil || status.Running {
		t.Errorf("status %+v, %v", status, err)
	}
	_, err := h.Engine.Apply(t.Context(), table(route("mail", listen, v1)))
	if !errors.Is(err, deploy.ErrNotRunning) || !strings.Contains(err.Error(), "systemctl start") {
		t.Errorf("got %v, want an error that says how to start it", err)
	}
	h.Start()
	answers(t, listen, "v1")
}

func TestPrepareLeavesOutTakenPorts(t *testing.T) {
	h := haproxytest.New(t)
	v1, taken, free := enginetest.NewServer(t, "v1"), port(t), port(t)
	occupy(t, taken)
	err := h.Engine.Prepare(t.Context(), table(route("late", taken, v1), route("mail", free, v1)))
	wantRouteError(t, err, "late", taken, "listens on it already")
	h.Start()
	answers(t, free, "v1")
}

func TestPrepareOfARunningHAProxy(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2, mail := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), port(t)
	apply(t, h, route("mail", mail, v1))
	if err := h.Engine.Prepare(t.Context(), table(route("mail", mail, v2))); err != nil {
		t.Fatal(err)
	}
	answers(t, mail, "v1")
	if applied := apply(t, h, route("mail", mail, v2)); applied.Reload != "" {
		t.Errorf("reload: %s", applied.Reload)
	}
	answers(t, mail, "v2")
	wantFresh(t, h)
}

func TestPortTakenAfterTheLook(t *testing.T) {
	// The look finds nothing, and then somebody is there: what the look is asked for is when the port is taken.
	var (
		taken = port(t)
		ln    net.Listener
		armed bool
	)
	h := haproxytest.Start(t, func(c *haproxy.Config) {
		c.Listeners = func() ([]listeners.Listener, error) {
			list, err := listeners.List()
			if armed && ln == nil {
				ln = occupy(t, taken)
			}
			return list, err
		}
	})
	v1, v2, mail, news := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), port(t), port(t)
	apply(t, h, route("mail", mail, v1))
	armed = true
	_, err := h.Engine.Apply(t.Context(), table(route("late", taken, v1), route("mail", mail, v2), route("news", news, v1)))
	wantRouteError(t, err, "late", taken, "listens on it already")
	answers(t, mail, "v2")
	answers(t, news, "v1")
	wantFresh(t, h)

	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	apply(t, h, route("late", taken, v1), route("mail", mail, v2), route("news", news, v1))
	answers(t, taken, "v1")
}

// A reload that fails for a reason that nobody foresaw: HAProxy reads another file than the engine believes, and that one is
// broken.
func TestReloadThatFails(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2, mail, late := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), port(t), port(t)
	apply(t, h, route("mail", mail, v1))
	misled := h.Config
	misled.ConfigFile = filepath.Join(t.TempDir(), "haproxy.cfg")
	engine := haproxy.New(misled)
	if err := os.WriteFile(h.Config.ConfigFile, []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	// What is new is left out, and the others don't wait for it.
	applied, err := engine.Apply(t.Context(), table(route("late", late, v1), route("mail", mail, v2)))
	wantRouteError(t, err, "late", late, "HAProxy")
	if applied.Reload != "" {
		t.Errorf("what is left of the table took a reload: %s", applied.Reload)
	}
	answers(t, mail, "v2")

	// Where nothing is new, all stays as it was.
	before, err := os.ReadFile(misled.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	r := route("mail", mail, v1)
	r.Hold = time.Minute
	if _, err := engine.Apply(t.Context(), table(r)); err == nil {
		t.Error("a reload that failed went unnoticed")
	}
	answers(t, mail, "v2")
	if after, err := os.ReadFile(misled.ConfigFile); err != nil || string(after) != string(before) {
		t.Errorf("the file was not put back: %v\n%s", err, after)
	}
}

func TestUndo(t *testing.T) {
	v1, v2 := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2")
	for _, c := range []struct {
		name string
		// more are routes beside mail's, which take a reload there and back.
		more []deploy.Route
		// edited is what somebody else has added to the file before.
		edited string
		stale  string
	}{
		{"a switch", nil, "", ""},
		{"a reload", []deploy.Route{route("news", port(t), v2)}, "", ""},
		{"a reload of a file that somebody else has changed", []deploy.Route{route("news", port(t), v2)}, "# edited\n", "somebody else"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := haproxytest.Start(t)
			mail := port(t)
			before := withOptions(t, route("mail", mail, v1), "allow=127.0.0.0/8,2001:db8::/32")
			apply(t, h, before)
			text := file(t, h) + c.edited
			overwrite(t, h.Config.ConfigFile, text)
			undo, err := h.Engine.Remember(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			apply(t, h, append(c.more, withOptions(t, route("mail", mail, v2), "allow=127.0.0.1"))...)
			answers(t, mail, "v2")
			if err := undo(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 10 {
				answers(t, mail, "v1")
			}
			wantStale(t, h, c.stale)
			if file(t, h) != text {
				t.Error("the file is not what it was")
			}
		})
	}
}

func TestFileThatCannotBeWritten(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2, mail := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), port(t)
	apply(t, h, route("mail", mail, v1))
	nowhere := h.Config
	nowhere.ConfigFile = filepath.Join(t.TempDir(), "missing", "haproxy.cfg")
	if _, err := haproxy.New(nowhere).Apply(t.Context(), table(route("mail", mail, v2))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	answers(t, mail, "v1")
}

func TestHAProxyThatHangs(t *testing.T) {
	h := haproxytest.New(t)
	for _, socket := range []string{h.Config.StatsSocket, h.Config.MasterSocket} {
		ln, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := h.Engine.Apply(ctx, table(route("mail", port(t))))
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, deploy.ErrNotRunning) || !strings.Contains(err.Error(), h.Config.StatsSocket) {
		t.Errorf("got %v, want an error that names the socket", err)
	}
}

// What runs is put right whatever somebody did to it.
func TestConverges(t *testing.T) {
	v1, v2 := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2")
	for _, c := range []struct {
		name   string
		change func(t *testing.T, h *haproxytest.HAProxy, mail deploy.Key)
		// stale is part of what Status says of it before it is put right, reload whether that takes one.
		stale  string
		reload bool
	}{
		{
			name: "a server set to maintenance",
			change: func(t *testing.T, h *haproxytest.HAProxy, mail deploy.Key) {
				command(t, h, fmt.Sprintf("set server mail:%d/s1 state maint", mail.Port))
			},
			stale: "other servers",
		},
		{
			name: "a free slot made ready",
			change: func(t *testing.T, h *haproxytest.HAProxy, mail deploy.Key) {
				command(t, h, fmt.Sprintf("set server mail:%d/s3 state ready", mail.Port))
			},
			stale: "other servers",
		},
		{
			name: "another address",
			change: func(t *testing.T, h *haproxytest.HAProxy, mail deploy.Key) {
				command(t, h, fmt.Sprintf("set server mail:%d/s1 addr 127.0.0.1 port %d", mail.Port, v2.Addr.Port()))
			},
			stale: "other servers",
		},
		{
			name: "a worker that crashes, and a service manager that starts HAProxy again",
			change: func(t *testing.T, h *haproxytest.HAProxy, _ deploy.Key) {
				h.Kill()
				h.Start()
			},
		},
		{
			name: "a file from before",
			change: func(t *testing.T, h *haproxytest.HAProxy, mail deploy.Key) {
				h.Stop()
				if err := h.Engine.Prepare(t.Context(), table(route("mail", mail, v2))); err != nil {
					t.Fatal(err)
				}
				h.Start()
				answers(t, mail, "v2")
			},
		},
		{
			name: "a file that somebody else has changed",
			change: func(t *testing.T, h *haproxytest.HAProxy, mail deploy.Key) {
				edit(t, h, v1.Addr.String(), v2.Addr.String())
				h.Stop()
				h.Start()
				answers(t, mail, "v2")
			},
			stale: "somebody else",
		},
		{
			name: "a file without the route",
			change: func(t *testing.T, h *haproxytest.HAProxy, _ deploy.Key) {
				h.Stop()
				if err := h.Engine.Prepare(t.Context(), deploy.Table{}); err != nil {
					t.Fatal(err)
				}
				h.Start()
			},
			reload: true,
		},
		{
			name: "no file",
			change: func(t *testing.T, h *haproxytest.HAProxy, _ deploy.Key) {
				if err := os.Remove(h.Config.ConfigFile); err != nil {
					t.Fatal(err)
				}
			},
			stale: "somebody else",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := haproxytest.Start(t)
			mail := port(t)
			apply(t, h, route("mail", mail, v1))
			answers(t, mail, "v1")
			c.change(t, h, mail)
			if c.stale != "" {
				status, err := h.Engine.Status(t.Context())
				if err != nil || !strings.Contains(status.Stale, c.stale) {
					t.Errorf("status %+v, %v, want it stale: %s", status, err, c.stale)
				}
			}
			if applied := apply(t, h, route("mail", mail, v1)); (applied.Reload != "") != c.reload {
				t.Errorf("reload: %q", applied.Reload)
			}
			for range 10 {
				answers(t, mail, "v1")
			}
			wantFresh(t, h)
		})
	}
}

func TestWorkerThatCrashes(t *testing.T) {
	h := haproxytest.Start(t)
	v1, mail := enginetest.NewServer(t, "v1"), port(t)
	apply(t, h, route("mail", mail, v1))
	kill(t, status(t, h).Worker)
	<-h.Ended() // the master leaves starting again to the service manager
	_, err := h.Engine.Apply(t.Context(), table(route("mail", mail, v1)))
	if !errors.Is(err, deploy.ErrNotRunning) {
		t.Errorf("got %v", err)
	}
	h.Start()
	answers(t, mail, "v1")
}

func TestReloadBySomebodyElse(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2, mail := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), port(t)
	apply(t, h, route("mail", mail, v1))
	apply(t, h, route("mail", mail, v2))
	before := status(t, h)
	reload(t, before.Master)
	wait.Until(t, "the new worker answers", func() bool {
		s, err := h.Engine.Status(t.Context()) // which fails while the master starts anew
		return err == nil && s.Worker != before.Worker
	})
	for range 10 {
		answers(t, mail, "v2")
	}
	wantFresh(t, h)
}

func TestHoldPortIsRefused(t *testing.T) {
	h := haproxytest.Start(t)
	v1, mail := enginetest.NewServer(t, "v1"), port(t)
	one := deploy.Key{Port: 1}
	_, err := h.Engine.Apply(t.Context(), table(route("one", one, v1), route("mail", mail, v1)))
	wantRouteError(t, err, "one", one, "choose another public port")
	answers(t, mail, "v1")
}

// occupy listens on a port, as a process that has nothing to do with HAProxy.
func occupy(t *testing.T, l deploy.Key) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf(":%d", l.Port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// wantRouteError wants an error of one route and of nothing else, with a text in it.
func wantRouteError(t *testing.T, err error, app string, listen deploy.Key, text string) {
	t.Helper()
	var e *deploy.RouteError
	if !errors.As(err, &e) || e.App != app || e.Key != listen || !strings.Contains(err.Error(), text) || err.Error() != e.Error() {
		t.Errorf("got %v, want an error of public port %s of %s: %s", err, listen, app, text)
	}
}

// wantFresh wants HAProxy to run what its file says.
func wantFresh(t *testing.T, h *haproxytest.HAProxy) {
	t.Helper()
	wantStale(t, h, "")
}

// serving is what HAProxy says that it serves.
func serving(t *testing.T, h *haproxytest.HAProxy) map[deploy.Key]deploy.RouteState {
	t.Helper()
	o, err := h.Engine.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return o.Serving()
}

func status(t *testing.T, h *haproxytest.HAProxy) haproxy.Status {
	t.Helper()
	s, err := h.Engine.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func port(t *testing.T) deploy.Key {
	t.Helper()
	return deploy.Key{Port: enginetest.FreePort(t)}
}
