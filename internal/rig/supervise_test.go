package rig_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"dokku-expose/internal/need"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/wait"
)

func TestSupervisedServiceIsStartedAgain(t *testing.T) {
	need.HAProxy(t)
	s := newStubbed(t, func(o *rig.Options) { o.Supervise = true })
	s.fail("stub") // `prepare` fails, which is ignored
	answers := func() bool {
		conn, err := net.Dial("unix", filepath.Join(s.Run, "stats.sock"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	s.must(s.StartHAProxy())
	first := s.HAProxyGroup()
	s.must(syscall.Kill(first, syscall.SIGKILL))
	over := time.After(wait.Patience)
	for s.HAProxyGroup() == first || s.HAProxyGroup() == 0 || !answers() {
		select {
		case <-over:
			t.Fatal("HAProxy was not started again")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if got := s.calls(); !slices.Equal(got, []string{"stub prepare", "stub prepare"}) {
		t.Errorf("calls %q, want one before each start", got)
	}

	s.must(s.PowerOff())
	files, err := os.ReadDir(s.Run)
	s.must(err)
	if answers() || s.HAProxyGroup() != 0 || len(files) > 0 {
		t.Errorf("after a power failure process %d runs, and there is %v", s.HAProxyGroup(), files)
	}
	s.must(s.StartHAProxy())
	s.must(s.StopHAProxy())
	if answers() || s.HAProxyGroup() != 0 {
		t.Error("HAProxy runs after it was stopped")
	}
}
