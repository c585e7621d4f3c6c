package chaos_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"dokku-expose/internal/need"
	"dokku-expose/internal/rig"
)

var deployFaults = []fault{
	{name: "port taken in the middle of its deploy", promise: loseOwn, inject: (*scene).bindConflict},
	{name: "two deploys and ten expose:sync at once", promise: loseOwn, inject: (*scene).allAtOnce},
	{name: "post-deploy killed, the lock's holder stopped", promise: loseOwn, inject: (*scene).killedDeploy},
}

// bindConflict lets somebody listen on a deploy's new port after that was found free. The next deploy does without it.
func (s *scene) bindConflict() {
	s.t.Helper()
	a := s.chat()
	port, err := s.FreePort()
	s.must(err)
	var listener net.Listener
	take := rig.Before(func(c rig.Call) bool {
		if c.Name == "pre-release-builder" {
			listener, err = net.Listen("tcp", fmt.Sprint(":", port))
		}
		return true
	})
	a.version++
	pushed := s.Push(a.name, a.source(fmt.Sprintf("%d:%d", port, private)), take)
	s.must(err)
	s.fails(pushed)
	s.must(listener.Close())
	s.push(a)
}

// fails wants a command of Dokku's to have ended with an error of the plugin's.
func (s *scene) fails(err error) {
	s.t.Helper()
	if failed := (*rig.TriggerError)(nil); !errors.As(err, &failed) {
		s.t.Fatalf("the command ended with %v, want an error of the plugin\n%s", err, s.evidence())
	}
}

func (s *scene) allAtOnce() {
	s.t.Helper()
	var all sync.WaitGroup
	errs := make(chan error, 12)
	for _, a := range s.apps {
		a.version++
		all.Go(func() { errs <- s.Push(a.name, a.source(), switched(a)) })
	}
	for range 10 {
		all.Go(func() {
			result, err := s.Command("sync")
			if err == nil && result.Code != 0 {
				err = fmt.Errorf("expose:sync: exit status %d: %s", result.Code, result.Stderr)
			}
			errs <- err
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		s.must(err)
	}
}

// killedDeploy kills post-deploy while it waits for the host-wide lock, whose holder does not move and is killed then too.
func (s *scene) killedDeploy() {
	s.t.Helper()
	need.Program(s.t, "flock", "util-linux")
	holder := exec.Command("flock", filepath.Join(s.Lib, "data", rig.Plugin, "lock"), "sh", "-c", "echo; exec cat")
	holder.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := holder.StdinPipe()
	s.must(err)
	defer stdin.Close()
	stdout, err := holder.StdoutPipe()
	s.must(err)
	hold := func() error {
		if err := holder.Start(); err != nil {
			return err
		}
		if _, err := stdout.Read(make([]byte, 1)); err != nil {
			return err
		}
		return syscall.Kill(-holder.Process.Pid, syscall.SIGSTOP)
	}
	var killing error
	var killer sync.WaitGroup
	a := s.chat()
	a.version++
	err = s.Push(a.name, a.source(), rig.Before(func(c rig.Call) bool {
		if c.Name == "post-deploy" {
			if killing = hold(); killing == nil {
				killer.Go(func() { killing = s.killTrigger(c.Name) })
			}
		}
		return true
	}))
	killer.Wait()
	s.must(killing)
	if failed := (*rig.TriggerError)(nil); err == nil || errors.As(err, &failed) {
		s.t.Fatalf("post-deploy was not killed: the push ended with %v", err)
	}
	<-time.After(pause)
	s.must(syscall.Kill(-holder.Process.Pid, syscall.SIGKILL))
	_ = holder.Wait() // it was killed
}

// killTrigger kills the process of a trigger of this host's, when it is there.
func (s *scene) killTrigger(name string) error {
	for over := time.Now().Add(patience); time.Now().Before(over); {
		pids, err := children(os.Getpid())
		if err != nil {
			return err
		}
		for _, pid := range pids {
			command, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
			program, _, _ := strings.Cut(string(command), "\x00")
			if err == nil && strings.HasPrefix(program, s.Lib) && filepath.Base(program) == name {
				return syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	return fmt.Errorf("no process of the trigger %s", name)
}
