package deploy

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

func TestLockOfKilledHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
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
