package haproxy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/wait"
)

// Whatever of HAProxy is stuck or gone, what it serves goes on, what can be done is done, and the rest is an error that says
// what to do.
func TestHAProxyInPart(t *testing.T) {
	for _, c := range []struct {
		name string
		// harm does it, and returns what undoes it; nil where only a restart does.
		harm func(t *testing.T, h *haproxytest.HAProxy) (heal func())
		// serving and switches tell whether these are had all the same.
		serving, switches bool
		// text is part of the error.
		text func(h *haproxytest.HAProxy) string
		// quiet tells that the worker itself is stuck.
		quiet bool
	}{
		{
			name:     "the master hangs",
			harm:     func(t *testing.T, h *haproxytest.HAProxy) func() { return freeze(t, status(t, h).Master) },
			serving:  true,
			switches: true,
			text:     func(h *haproxytest.HAProxy) string { return "does not answer on " + h.Config.MasterSocket },
		},
		{
			name:  "the worker hangs",
			harm:  func(t *testing.T, h *haproxytest.HAProxy) func() { return freeze(t, status(t, h).Worker) },
			text:  func(h *haproxytest.HAProxy) string { return "does not answer on " + h.Config.StatsSocket },
			quiet: true,
		},
		{
			name:     "the master's socket is gone",
			harm:     func(t *testing.T, h *haproxytest.HAProxy) func() { return remove(t, h.Config.MasterSocket) },
			serving:  true,
			switches: true,
			text:     func(h *haproxytest.HAProxy) string { return h.Config.MasterSocket },
		},
		{
			name: "the worker's socket is gone",
			harm: func(t *testing.T, h *haproxytest.HAProxy) func() { return remove(t, h.Config.StatsSocket) },
			text: func(h *haproxytest.HAProxy) string { return h.Config.StatsSocket },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := haproxytest.Start(t)
			v1, v2 := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2")
			mail, news := route("mail", port(t), v1), route("news", port(t), v1)
			apply(t, h, mail)
			text := file(t, h)
			heal := c.harm(t, h)
			wrong := func(what string, err error) {
				t.Helper()
				if err == nil || errors.Is(err, deploy.ErrNotRunning) || !strings.Contains(err.Error(), c.text(h)) || !strings.Contains(err.Error(), "systemctl restart") {
					t.Errorf("%s: got %v, want an error that names the socket and the remedy", what, err)
				}
			}

			_, err := h.Engine.Observe(t.Context(), deploy.Health)
			wrong("health", err)
			// Its own patience is tested; the other calls get less.
			impatient := func() context.Context {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				t.Cleanup(cancel)
				return ctx
			}
			o, err := h.Engine.Observe(impatient())
			if !c.serving {
				wrong("serving", err)
			} else if err != nil || len(o.Routes) != 1 {
				t.Errorf("serving %v, %v", o.Routes, err)
			}
			_, err = h.Engine.Apply(impatient(), table(mail, news))
			wrong("a new port", err)
			if file(t, h) != text {
				t.Error("the file is not what it was")
			}
			if !c.quiet {
				answers(t, mail.Key, "v1")
			}
			mail.Servers = route("mail", mail.Key, v2).Servers
			_, err = h.Engine.Apply(impatient(), table(mail))
			switch {
			case !c.switches:
				wrong("a switch", err)
			case err != nil:
				t.Errorf("a switch: %v", err)
			default:
				answers(t, mail.Key, "v2")
			}

			if heal != nil {
				heal()
			} else {
				h.Kill()
				h.Start()
			}
			apply(t, h, mail, news)
			answers(t, mail.Key, "v2")
			answers(t, news.Key, "v1")
		})
	}
}

// An old worker that hangs keeps nobody from switching, nor from new ports.
func TestOldWorkerThatHangs(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2 := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2")
	mail, news := route("mail", port(t), v1), route("news", port(t), v1)
	apply(t, h, mail)
	connect(t, mail.Key)
	old := status(t, h).Worker
	apply(t, h, mail, news)
	defer freeze(t, old)()
	mail = route("mail", mail.Key, v2)
	apply(t, h, mail, news)
	answers(t, mail.Key, "v2")
	apply(t, h, mail)
	if _, err := h.Engine.Observe(t.Context(), deploy.Counters); err == nil || !strings.Contains(err.Error(), "old worker") {
		t.Errorf("got %v, want an error of the old worker", err)
	}
	if conn, err := net.Dial("tcp", "127.0.0.1:"+news.Key.String()); err == nil {
		_ = conn.Close()
		t.Error("the port that was closed is listened on")
	}
}

// freeze stops a process as if it hung, until heal.
func freeze(t *testing.T, pid int) (heal func()) {
	t.Helper()
	send(t, pid, syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	wait.Until(t, "the process stands still", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		return err == nil && !slices.ContainsFunc(threads, func(path string) bool {
			text, err := os.ReadFile(path)
			return err != nil || !strings.Contains(string(text), "T (stopped)")
		})
	})
	return func() { send(t, pid, syscall.SIGCONT) }
}

func remove(t *testing.T, path string) (heal func()) {
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	return nil
}
