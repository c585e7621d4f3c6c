// Package haproxytest gives a test a HAProxy of its own: in a folder of its own, gone when the test ends.
package haproxytest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/haproxy"
	"dokku-expose/internal/need"
	"dokku-expose/internal/wait"
)

// patience bounds what should take milliseconds.
const patience = 30 * time.Second

// HAProxy is a HAProxy that a test can stop and start.
type HAProxy struct {
	Engine *haproxy.Engine
	Config haproxy.Config

	t       testing.TB
	log     wait.Buffer
	command *exec.Cmd
	ended   chan struct{}
}

// New prepares a HAProxy, for the settings that change makes of the default ones, and does not start it. Without a haproxy
// program the test is skipped.
func New(t testing.TB, change ...func(*haproxy.Config)) *HAProxy {
	t.Helper()
	// Not t.TempDir, whose path may be too long for a unix socket.
	dir, err := os.MkdirTemp("", "haproxy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	h := &HAProxy{t: t, Config: haproxy.Config{
		Binary:         need.HAProxy(t),
		ConfigFile:     filepath.Join(dir, "haproxy.cfg"),
		MasterSocket:   filepath.Join(dir, "master.sock"),
		StatsSocket:    filepath.Join(dir, "stats.sock"),
		WorkerDeadline: time.Hour,
	}}
	for _, c := range change {
		c(&h.Config)
	}
	h.Engine = haproxy.New(h.Config)
	t.Cleanup(func() {
		h.Stop()
		if t.Failed() {
			t.Logf("HAProxy said:\n%s", h.Log())
		}
	})
	return h
}

// Start runs a HAProxy without routes.
func Start(t testing.TB, change ...func(*haproxy.Config)) *HAProxy {
	t.Helper()
	h := New(t, change...)
	if err := h.Engine.Prepare(t.Context(), deploy.Table{}); err != nil {
		t.Fatal(err)
	}
	h.Start()
	return h
}

// Start runs HAProxy with the configuration that is there, and returns when it answers.
func (h *HAProxy) Start() {
	h.t.Helper()
	args := h.Engine.Command()
	command := exec.Command(args[0], args[1:]...)
	command.Stdout, command.Stderr = &h.log, &h.log
	// A group of its own: no worker may outlive the test.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait() // how it ended is in its log
		close(ended)
	}()
	h.command, h.ended = command, ended

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		// What answers may still be the one that was stopped a moment ago.
		o, err := h.Engine.Observe(ctx, deploy.Counters)
		if err == nil && o.Running && o.PID == command.Process.Pid {
			return
		}
		select {
		case <-tick.C:
		case <-ended:
			h.t.Fatalf("HAProxy has ended:\n%s", h.Log())
		case <-ctx.Done():
			h.t.Fatalf("HAProxy does not answer: %v\n%s", err, h.Log())
		}
	}
}

// Stop ends HAProxy with all its connections, as a service manager does. It does nothing when none runs.
func (h *HAProxy) Stop() {
	h.signal(syscall.SIGTERM)
}

// Kill ends HAProxy as a crash does.
func (h *HAProxy) Kill() {
	h.signal(syscall.SIGKILL)
}

func (h *HAProxy) signal(s syscall.Signal) {
	h.t.Helper()
	if h.command == nil {
		return
	}
	group := -h.command.Process.Pid
	h.command = nil
	if err := syscall.Kill(group, s); err != nil {
		h.t.Logf("HAProxy: %v", err)
	}
	select {
	case <-h.ended:
	case <-time.After(patience):
		h.t.Errorf("HAProxy does not end")
	}
	_ = syscall.Kill(group, syscall.SIGKILL) // whoever is left
}

// Ended is closed when the HAProxy that was started last has ended.
func (h *HAProxy) Ended() <-chan struct{} { return h.ended }

// Log is what HAProxy has said since the test began.
func (h *HAProxy) Log() string { return h.log.String() }
