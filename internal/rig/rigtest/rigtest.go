// Package rigtest gives tests a [rig.Host]. The programs that it runs are built once in a test binary, whose TestMain hands
// them back:
//
//	func TestMain(m *testing.M) { os.Exit(rigtest.Run(m)) }
package rigtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"dokku-expose/internal/need"
	"dokku-expose/internal/netns"
	"dokku-expose/internal/rig"
)

// programs is the folder of what is built, "" outside of Run.
var programs string

var (
	app     = sync.OnceValues(func() (string, error) { return rig.BuildApp(context.Background(), programs) })
	plugin  = sync.OnceValues(func() (string, error) { return rig.BuildPlugin(context.Background(), programs) })
	service = sync.OnceValues(func() (string, error) { return rig.BuildService(context.Background(), programs) })
)

// Run runs the tests and then removes the programs. It returns the exit status for os.Exit.
func Run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "rigtest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "rigtest:", err)
		return 1
	}
	programs = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "rigtest:", err)
		return 1
	}
	return code
}

// App is the program of internal/testapp.
func App(t testing.TB) string { return program(t, app) }

// Plugin is the plugin's binary.
func Plugin(t testing.TB) string { return program(t, plugin) }

// Service is the plugin's binary as its services run it, with the race detector where the test has that.
func Service(t testing.TB) string { return cmp.Or(program(t, service), Plugin(t)) }

func program(t testing.TB, build func() (string, error)) string {
	t.Helper()
	if programs == "" {
		t.Fatal("rigtest: TestMain must be: func TestMain(m *testing.M) { os.Exit(rigtest.Run(m)) }")
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// New makes a host with the plugin's binary and its HAProxy, and closes it when the test ends; with change the test can
// have another one. What a user would see goes to the test's log.
func New(t testing.TB, change ...func(*rig.Options)) *rig.Host {
	t.Helper()
	opts := rig.Options{App: App(t), HAProxy: true, Out: t.Output()}
	for _, c := range change {
		c(&opts)
	}
	if opts.DockerHost == "" {
		need.Docker(t)
	}
	if opts.Binary == "" {
		opts.Binary = Plugin(t)
		// A test that is about much traffic may want the plain one.
		if opts.Service == "" {
			opts.Service = program(t, service)
		}
	}
	if opts.HAProxy {
		need.HAProxy(t)
	}
	h, err := rig.New(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := h.StopDaemon()
		raced(t, h.DaemonLog())
		if t.Failed() {
			t.Logf("the daemon said:\n%s\nHAProxy said:\n%s", lastLines(h.DaemonLog()), lastLines(h.HAProxyLog()))
		}
		if err := errors.Join(err, h.Close()); err != nil {
			t.Error(err)
		}
	})
	return h
}

// ClientHost makes another host for clients, which lasts until the test ends; nil where that can't be had, see [need.Namespaces].
func ClientHost(t testing.TB) *netns.Host {
	t.Helper()
	if !need.Namespaces(t) {
		return nil
	}
	h, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// raced fails the test when the race detector has found something in a program with that log.
func raced(t testing.TB, log string) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if at := bytes.Index(text, []byte("WARNING: DATA RACE")); at >= 0 {
		t.Errorf("the daemon's log:\n%s", text[at:])
	}
}

// lastLines are the last lines of a file.
func lastLines(name string) string {
	const most = 60
	text, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	lines := slices.Collect(strings.Lines(string(text)))
	return strings.Join(lines[max(0, len(lines)-most):], "")
}
