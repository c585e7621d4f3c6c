package dokku

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/prometheus/procfs"
)

func TestProcess(t *testing.T) {
	child := exec.Command("cat")
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = child.Process.Kill()
			_ = child.Wait()
		}
	})
	p, err := Env{PID: child.Process.Pid}.Deploy()
	if err != nil {
		t.Fatal(err)
	}
	if !p.Alive() {
		t.Errorf("%+v is not alive, and runs", p)
	}
	if other := (Process{PID: p.PID, Start: p.Start - 1}); other.Alive() {
		t.Errorf("%+v is alive; a later process has its id", other)
	}
	text, err := json.Marshal(map[string]Process{"deploy": p})
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]Process
	if err := json.Unmarshal(text, &back); err != nil || back["deploy"] != p {
		t.Errorf("%s is read back as %+v, %v; want %+v", text, back, err, p)
	}

	// It ends, but nobody has waited for it yet.
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	for state := ""; state != "Z"; {
		proc, err := procfs.NewProc(p.PID)
		if err != nil {
			t.Fatal(err)
		}
		stat, err := proc.Stat()
		if err != nil {
			t.Fatal(err)
		}
		state = stat.State
	}
	if p.Alive() {
		t.Error("a zombie is alive")
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
	ended = true
	if p.Alive() {
		t.Error("a process that is gone is alive")
	}
}

func TestNoProcess(t *testing.T) {
	if p, err := (Env{}).Deploy(); err != nil || p != (Process{}) || p.Alive() {
		t.Errorf("outside of Dokku: %+v, %v, alive %t; want no process", p, err, p.Alive())
	}
	// The largest id that the kernel can ever give is 4194304.
	if p, err := (Env{PID: 1 << 30}).Deploy(); err == nil {
		t.Errorf("a deploy by a process that is not there is %+v; want an error", p)
	}
	self, err := Env{PID: os.Getpid()}.Deploy()
	if err != nil || !self.Alive() {
		t.Errorf("this process: %+v, %v; want it alive", self, err)
	}
	for _, text := range []string{"", "1", "@1", "1@", "x@1", "1@x", "-1@1", "1@-1", "1@1@1", " 1@1"} {
		var p Process
		if err := p.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v; want an error", text, p)
		}
	}
}
