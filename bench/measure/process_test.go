package measure

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestUsageIsOfAllProcesses(t *testing.T) {
	// One that takes the CPU, and one that has five files open, beside the shell.
	p, err := Start(exec.Command("sh", "-c", `sh -c 'while :; do :; done' & sleep 1000 3</dev/null 4</dev/null & wait`))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	u := await(t, p, func(u Usage) bool { return u.Processes == 3 && u.CPU >= 100*time.Millisecond })
	if u.Memory < 3*100<<10 || u.Memory > 1<<30 {
		t.Errorf("three processes have %d bytes of memory", u.Memory)
	}
	if u.Files < 3+3+5 {
		t.Errorf("%d files are open, want 11 at the least", u.Files)
	}
	p.Stop()
	if u, err := p.Usage(); err == nil {
		t.Errorf("%d processes are left", u.Processes)
	}
}

func TestUsageOfAProgramThatHasEndedSaysWhatItSaid(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "echo no such file >&2"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	<-p.Done()
	if _, err := p.Usage(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", `trap '' TERM; sleep 1000 & wait; sleep 1000`))
	if err != nil {
		t.Fatal(err)
	}
	await(t, p, func(u Usage) bool { return u.Processes == 2 })
	p.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
		u, err := p.Usage()
		if err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d processes are left", u.Processes)
		}
	}
}

// await returns when the program's usage is as it should be.
func await(t *testing.T, p *Process, ok func(Usage) bool) Usage {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		u, err := p.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if ok(u) {
			return u
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("its usage is %+v", u)
		}
	}
}
