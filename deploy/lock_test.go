package deploy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary also be the process that TestLockOfKilledHolder kills.
func TestMain(m *testing.M) {
	path := os.Getenv("LOCK_HOLDER")
	if path == "" {
		os.Exit(m.Run())
	}
	if _, err := Acquire(context.Background(), path); err != nil {
		panic(err)
	}
	os.Stdout.WriteString("held\n")
	select {}
}

// lockHolder starts a process that holds the lock. It ends with the test.
func lockHolder(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "LOCK_HOLDER="+path)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("the holder says %q, %v", line, err)
	}
	t.Cleanup(func() {
		if err := holder.Process.Kill(); err == nil {
			_ = holder.Wait()
		}
	})
	return holder
}

// A process that waits in vain is told which other one is in its way, and what to do about that.
func TestLockNamesItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder := lockHolder(t, path)
	pid := holder.Process.Pid
	waits := func() string {
		ctx, cancel := context.WithTimeout(t.Context(), lockRetry)
		defer cancel()
		_, err := Acquire(ctx, path)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		return err.Error()
	}
	name := fmt.Sprintf("%s (pid %d) ", os.Args[0], pid)
	if got, want := waits(), name+"holds the lock "+path; !strings.HasPrefix(got, want) || !strings.Contains(got, fmt.Sprintf(": kill %d:", pid)) {
		t.Errorf("got %q, want it to begin with %q", got, want)
	}
	if err := holder.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("it is not stopped: %v", err)
	}
	if got, want := waits(), name+"is stopped, and holds the lock "+path; !strings.HasPrefix(got, want) || !strings.Contains(got, fmt.Sprintf("kill -CONT %d,", pid)) {
		t.Errorf("got %q, want it to begin with %q", got, want)
	}
}

func TestLockOfKilledHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder := lockHolder(t, path)
	busy, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	if _, err := Acquire(busy, path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a held lock was acquired, or its error does not name it: %v", err)
	}

	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	lock, err := Acquire(t.Context(), path)
	if err != nil {
		t.Fatalf("a killed holder blocks: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	if err := holder.Wait(); err == nil {
		t.Error("the holder ended by itself")
	}
	var r Reconciler
	if _, err := r.Reconcile(t.Context(), lock); err == nil {
		t.Error("reconcile went on without the lock")
	}
}

// Who is interrupted is not told that somebody hangs.
func TestLockWhoseWaitIsInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := Acquire(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Acquire(ctx, path); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("got %v, want an error that tells of the interruption", err)
	}
}
