package control

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/proxytest"
)

func TestEndDrainsAndThenCuts(t *testing.T) {
	v1, port := enginetest.NewServer(t, "v1"), enginetest.FreePort(t)
	for _, row := range []struct {
		name  string
		drain time.Duration
	}{
		{"in time", proxytest.Patience},
		{"too late", time.Millisecond},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := folder(t)
			config := processConfig{Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth"), Drain: row.drain}
			truth(t, config.Truth, proxytest.RouteTo("mail", port, v1))
			p := startProcess(t, config)
			c := proxytest.Dial(t, port)
			c.Greeting()
			p.signal(syscall.SIGTERM)
			if row.drain == proxytest.Patience {
				wait.Until(t, "nobody listens", func() bool {
					conn, err := net.Dial("tcp4", c.Conn.RemoteAddr().String())
					if err == nil {
						conn.Close()
					}
					return errors.Is(err, syscall.ECONNREFUSED)
				})
				c.Echo()
				c.Conn.Close()
			} else if err := c.AwaitEnd(); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("it ended with %v, want a reset", err)
			}
			p.await()
			if _, err := os.Stat(config.Control); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the control socket is left: %v", err)
			}
		})
	}
}

func TestPredecessorEndsAtItsDeadline(t *testing.T) {
	dir := folder(t)
	config := processConfig{
		Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth"), Drain: proxytest.Patience, Deadline: time.Millisecond,
	}
	port := enginetest.FreePort(t)
	truth(t, config.Truth, proxytest.RouteTo("mail", port, enginetest.NewServer(t, "v1")))
	p := startProcess(t, config)
	c := proxytest.Dial(t, port)
	c.Greeting()
	startProcess(t, config)
	if err := c.AwaitEnd(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v, want a reset", err)
	}
	p.await()
	proxytest.Dial(t, port).Greeting()
}

// A handover that is under way when the daemon is to end comes first: then it has been taken over from.
func TestEndInTheMiddleOfAHandover(t *testing.T) {
	control, port := controlPath(t), enginetest.FreePort(t)
	var log wait.Buffer
	orphaned := make(chan struct{})
	c := runDaemon(t, Options{
		Control: control, Orphaned: orphaned, Linger: time.Second, Drain: time.Millisecond,
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	proxytest.Apply(t, c, proxytest.RouteTo("mail", port, enginetest.NewServer(t, "v1")))
	old := proxytest.Dial(t, port)
	old.Greeting()
	close(orphaned)
	wait.Until(t, "it lingers", func() bool { return strings.Contains(log.String(), "waits for another one") })

	conn, err := net.Dial("unix", control)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w := wire{conn.(*net.UnixConn), ours()}
	answer, files, err := w.exchange(request{Call: callHandover})
	if err != nil || answer.Handover == nil {
		t.Fatalf("got %+v, %v", answer, err)
	}
	defer closeFiles(files)
	wait.Until(t, "it would end", func() bool { return strings.Contains(log.String(), "nobody took over") })
	if answer, _, err := w.exchange(request{Call: callHanded}); err != nil || answer.Error != "" {
		t.Fatalf("got %+v, %v", answer, err)
	}
	if answer, _, err := w.exchange(request{Call: callObserve, Aspects: []deploy.Aspect{deploy.Counters}}); err != nil || answer.Observed == nil || answer.Observed.Connections() != 1 {
		t.Errorf("the old daemon says %+v, %v, want its connection", answer, err)
	}
	old.Echo()
	if _, err := os.Stat(control); err != nil {
		t.Errorf("the new daemon's socket is gone: %v", err)
	}
}

// Connections through ports that have gone, to another engine perhaps, outlive a restart as all others do.
func TestRestartAfterAllPortsHaveGone(t *testing.T) {
	dir := folder(t)
	config := processConfig{
		Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth"), Drain: time.Millisecond, Linger: proxytest.Patience, Supervised: true,
	}
	port := enginetest.FreePort(t)
	truth(t, config.Truth, proxytest.RouteTo("mail", port, enginetest.NewServer(t, "v1")))
	p := startProcess(t, config)
	old := proxytest.Dial(t, port)
	old.Greeting()
	truth(t, config.Truth)
	p.signal(syscall.SIGHUP)
	p.awaitReady()
	for range 2 {
		p.signal(syscall.SIGTERM)
		p.await()
		old.Echo()
		p = startProcess(t, config)
	}
	old.Echo()
	if all := predecessorsOf(t, clientOf(config.Control)); len(all) != 1 {
		t.Errorf("the predecessors are %v, want the one with the connection", all)
	}
}

// The control socket of a daemon that began anew, where somebody had removed the old one's, is not the old one's to remove.
func TestSocketOfAnotherStays(t *testing.T) {
	config := processConfig{Control: controlPath(t)}
	old := startProcess(t, config)
	if err := os.Remove(config.Control); err != nil {
		t.Fatal(err)
	}
	runDaemon(t, Options{Control: config.Control})
	old.signal(syscall.SIGTERM)
	old.await()
	if _, err := os.Stat(config.Control); err != nil {
		t.Error(err)
	}
}
