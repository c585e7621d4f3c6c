package rig_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"dokku-expose/internal/need"
	"dokku-expose/internal/rig"
)

// What a failing trigger has for consequences in Dokku, when an app with one container is pushed again.
func TestTriggerThatFails(t *testing.T) {
	s := newStubbed(t)
	s.must(s.Push("mail", mail))
	for _, test := range []struct {
		trigger string
		last    string // what is called last
		fails   bool   // the push
		renewed bool   // CONTAINER.web.1 names another container
		alive   bool   // the old container got no SIGTERM
	}{
		// Its exit status is lost in plugins/git/functions; so is that of pre-receive-app.
		{"post-extract", "post-deploy", false, true, false},
		{"pre-receive-app", "post-deploy", false, true, false},
		{"core-post-extract", "core-post-extract", true, false, true},
		{"pre-build", "pre-build", true, false, true},
		{"docker-args-build", "docker-args-build", true, false, true},
		{"post-build", "post-build", true, false, true},
		{"pre-release-builder", "pre-release-builder", true, false, true},
		{"post-release-builder", "post-release-builder", true, false, true},
		{"docker-args-process-deploy", "docker-args-process-deploy", true, false, true},
		{"post-container-create", "post-container-create", true, false, true},
		{"check-deploy", "scheduler-register-retired", true, false, true},
		{"scheduler-register-retired", "scheduler-register-retired", true, false, true},
		// The container has passed its checks; Dokku goes no way back.
		{"scheduler-post-deploy-process", "scheduler-post-deploy-process", true, true, true},
		{"core-post-deploy", "core-post-deploy", true, true, true},
		{"post-deploy", "post-deploy", true, true, true},
	} {
		t.Run(test.trigger, func(t *testing.T) {
			s.t = t
			old := s.current("web.1")
			s.calls()
			s.fail(test.trigger)
			err := s.Push("mail", mail)
			s.fail()

			var failed *rig.TriggerError
			if errors.As(err, &failed) != test.fails || test.fails && failed.Name != test.trigger {
				t.Errorf("the push ended with %v", err)
			}
			calls := s.calls()
			if last, _, _ := strings.Cut(calls[len(calls)-1], " "); last != test.last {
				t.Errorf("the last trigger is %q, want %s", calls[len(calls)-1], test.last)
			}
			if renewed := s.current("web.1") != old; renewed != test.renewed {
				t.Errorf("CONTAINER.web.1 names a new container: %t, want %t", renewed, test.renewed)
			}
			if !test.alive {
				s.awaitExit(old)
			} else if !s.inspect(old).State.Running {
				t.Error("the old container does not run any more")
			}
		})
	}
}

func TestContainerThatFailsItsCheck(t *testing.T) {
	t.Run("the first", func(t *testing.T) {
		s := newStubbed(t)
		s.must(s.Push("mail", mail))
		old := s.current("web.1")
		s.calls()
		var created string
		err := s.Push("mail", mail, rig.FailCheck("web.1"), rig.After(func(c rig.Call, _ rig.Result) {
			if c.Name == "post-container-create" {
				created = c.Args[1]
			}
		}))
		if err == nil {
			t.Fatal("the push went well")
		}
		calls := s.calls()
		// The app's name is lost where a script of Dokku's cleans up.
		if last := calls[len(calls)-1]; last != "scheduler-register-retired '' CONTAINER 60" {
			t.Errorf("the last call is %q", last)
		}
		if s.current("web.1") != old || !s.inspect(old).State.Running || s.inspect(created).State.Running {
			t.Error("the old container must be current and run, the new one must not run")
		}
		s.must(s.Restart("mail")) // the image of the push that failed
		if got := s.inspect(s.current("web.1")).Image; got != s.inspect(created).Image {
			t.Errorf("ps:restart deployed the image %s", got)
		}
	})
	t.Run("the second, and what ps:retire does then", func(t *testing.T) {
		s := newStubbed(t)
		s.must(s.Push("mail", mail))
		s.must(s.Scale("mail", "web", 2))
		old1, old2 := s.current("web.1"), s.current("web.2")
		if err := s.Restart("mail", rig.FailCheck("web.2")); err == nil {
			t.Fatal("the restart went well")
		}
		if s.current("web.1") == old1 || s.current("web.2") != old2 {
			t.Error("want a new web.1 and the old web.2")
		}
		for _, id := range []string{old1, old2, s.current("web.1")} {
			if !s.inspect(id).State.Running {
				t.Errorf("container %s does not run", id)
			}
		}
		s.must(s.Retire(false))
		if !s.inspect(old1).State.Running {
			t.Error("retired before its time")
		}
		s.must(s.Retire(true))
		if _, err := s.Docker.ContainerInspect(t.Context(), old1); err == nil {
			t.Error("the old web.1 is still there")
		}
		if !s.inspect(old2).State.Running || !s.inspect(s.current("web.1")).State.Running {
			t.Error("ps:retire stopped a current container")
		}
	})
}

func TestProcessThatDies(t *testing.T) {
	s := newStubbed(t)
	s.must(s.Push("mail", mail))
	old := s.current("web.1")
	s.calls()
	var pid int
	err := s.Push("mail", mail, rig.DieBefore("core-post-deploy"), rig.Before(func(c rig.Call) bool { pid = c.PID; return true }))
	if !errors.Is(err, rig.ErrDied) {
		t.Fatalf("the push ended with %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process %d of the push: %v", pid, err)
	}
	if calls := s.calls(); calls[len(calls)-1] != "nginx-pre-reload mail '' ''" {
		t.Errorf("the last call is %q", calls[len(calls)-1])
	}
	if s.current("web.1") == old || !s.inspect(old).State.Running || !s.inspect(s.current("web.1")).State.Running {
		t.Error("want the new container to be current, and the old one to run on")
	}
}

func TestChecksDisabledStopsTheOldOnesFirst(t *testing.T) {
	s := newStubbed(t)
	s.must(s.Push("mail", mail))
	s.must(s.ChecksDisable("mail"))
	old := s.current("web.1")
	running := make(map[string]bool) // at the first call of each trigger
	s.must(s.Restart("mail", rig.Before(func(c rig.Call) bool {
		if _, seen := running[c.Name]; !seen {
			running[c.Name] = s.inspect(old).State.Running
		}
		return true
	})))
	if !running["scheduler-register-retired"] || running["docker-args-deploy"] {
		t.Errorf("the old container ran at the first call of: %v", running)
	}
}

func TestOldContainersGetSIGTERMWhenPostDeployHasReturned(t *testing.T) {
	var (
		mu     sync.Mutex
		events []string
	)
	note := func(event string) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, event)
	}
	s := newStubbed(t, func(o *rig.Options) {
		o.After = func(c rig.Call, _ rig.Result) {
			if c.Name == "post-deploy" {
				note("post-deploy")
			}
		}
		o.Stopping = func(app, id string) { note("stopping " + app + " " + id) }
	})
	s.must(s.SetWaitToRetire("--global", 1))
	s.must(s.Push("mail", rig.Source{Version: "v1", Listen: []uint16{5025}, Env: map[string]string{"LINGER": "1h"}}))
	old := s.current("web.1")
	conn, err := net.Dial("tcp", s.address(old)+":5025")
	s.must(err)
	defer conn.Close()
	lines := bufio.NewReader(conn)
	greeting, err := lines.ReadString('\n')
	if want := fmt.Sprintf("v1 %.12s 5025\n", old); err != nil || greeting != want {
		t.Fatalf("greeting %q, %v; want %q", greeting, err, want)
	}

	s.must(s.Push("mail", mail))
	mu.Lock()
	if want := []string{"post-deploy", "post-deploy", "stopping mail " + old}; !slices.Equal(events, want) {
		t.Errorf("events %q, want %q", events, want)
	}
	mu.Unlock()
	// The app lingers for this connection; docker stop, after wait-to-retire, can't know that.
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		t.Error(err)
	}
	if line, err := lines.ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("after SIGTERM the old container answered %q, %v", line, err)
	}
	conn.Close() // the app ends as soon as nobody is left
	s.awaitExit(old)
}

func TestProcessTypes(t *testing.T) {
	s := newStubbed(t)
	src := rig.Source{Version: "v1", Listen: []uint16{5025}, Processes: map[string]string{"imap": "-ports 5993"}}
	s.must(s.Push("mail", src))
	if id := s.current("imap.1"); id != "" {
		t.Error("a process type that nobody scaled has a container")
	}
	web := s.current("web.1")
	s.must(s.Scale("mail", "imap", 2, rig.ContainerEnv("imap.2", "VERSION=v1-imap.2")))
	if s.current("web.1") != web {
		t.Error("scaling imap replaced the container of web")
	}
	for dyno, want := range map[string]string{"web.1": "v1 5025", "imap.1": "v1 5993", "imap.2": "v1-imap.2 5993"} {
		info := s.inspect(s.current(dyno))
		version, port, _ := strings.Cut(want, " ")
		conn, err := net.Dial("tcp", s.address(info.ID)+":"+port)
		s.must(err)
		greeting, err := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if want := fmt.Sprintf("%s %.12s %s\n", version, info.ID, port); err != nil || greeting != want {
			t.Errorf("%s: greeting %q, %v; want %q", dyno, greeting, err, want)
		}
		process, _, _ := strings.Cut(dyno, ".")
		for label, want := range map[string]string{
			"com.dokku.app-name": "mail", "com.dokku.container-type": "deploy", "com.dokku.process-type": process, "com.dokku.dyno": dyno,
			"from.the.plugin": "yes indeed",
		} {
			if got := info.Config.Labels[label]; got != want {
				t.Errorf("%s: label %s is %q, want %q", dyno, label, got, want)
			}
		}
	}
}

func TestRepository(t *testing.T) {
	s := newStubbed(t)
	src := mail
	src.Prepare = func(dir string) error {
		return errors.Join(os.Remove(filepath.Join(dir, "PORTS")), os.Symlink("/etc/passwd", filepath.Join(dir, "PORTS")))
	}
	seen := false
	s.must(s.Push("mail", src, rig.After(func(c rig.Call, _ rig.Result) {
		if c.Name == "post-extract" {
			target, err := os.Readlink(filepath.Join(c.Args[1], "PORTS"))
			seen = err == nil && target == "/etc/passwd"
		}
	})))
	if !seen {
		t.Error("the source folder of post-extract has no link PORTS")
	}
}

func TestCommand(t *testing.T) {
	s := newStubbed(t, func(o *rig.Options) { o.Subcommands = []string{"env"}; o.Env = []string{"EXTRA=1"} })
	for _, test := range []struct {
		verb string
		args []string
		want string
	}{
		{"", nil, "commands expose"},
		{"help", nil, "commands expose:help"},
		{"list", []string{"mail", ""}, "commands expose:list mail ''"},
	} {
		result, err := s.Command(test.verb, test.args...)
		if got := s.calls(); err != nil || result.Code != 0 || !slices.Equal(got, []string{test.want}) {
			t.Errorf("%s: calls %q, exit status %d, error %v; want %q", test.verb, got, result.Code, err, test.want)
		}
	}
	result, err := s.Command("env", "mail")
	if got := s.calls(); err != nil || result.Code != 3 || !slices.Equal(got, []string{"env expose:env mail"}) {
		t.Errorf("calls %q, exit status %d, error %v", got, result.Code, err)
	}
	for _, want := range []string{
		"DOKKU_ROOT=" + s.Root, "DOKKU_LIB_ROOT=" + s.Lib, "DOKKU_EXPOSE_RUN_DIR=" + s.Run, "PLUGIN_PATH=" + s.Lib + "/plugins",
		"DOKKU_NOT_IMPLEMENTED_EXIT=10", "EXTRA=1", "the process DOKKU_PID runs",
	} {
		if !slices.Contains(strings.Split(result.Stdout, "\n"), want) {
			t.Errorf("no %q in\n%s", want, result.Stdout)
		}
	}
}

func TestTrigger(t *testing.T) {
	s := newStubbed(t)
	s.fail("post-deploy")
	result, err := s.Trigger("post-deploy", "mail", "", "", "latest")
	if got := s.calls(); err != nil || result.Code != 1 || !slices.Equal(got, []string{"post-deploy mail '' '' latest"}) {
		t.Errorf("calls %q, exit status %d, error %v", got, result.Code, err)
	}
}

func TestOnlyLinkedTriggersAreCalled(t *testing.T) {
	s := newStubbed(t, func(o *rig.Options) { o.Triggers = []string{"post-create", "post-delete"} })
	s.must(s.CreateApp("mail"))
	s.must(s.Destroy("mail"))
	if got, want := s.calls(), []string{"post-create mail", "post-delete mail TAG"}; !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
}

func TestHAProxy(t *testing.T) {
	need.HAProxy(t)
	s := newStubbed(t)
	for range 2 {
		s.must(s.StartHAProxy())
		conn, err := net.Dial("unix", filepath.Join(s.Run, "stats.sock"))
		s.must(err)
		conn.Close()
		s.must(s.StopHAProxy())
		if conn, err := net.Dial("unix", filepath.Join(s.Run, "stats.sock")); err == nil {
			conn.Close()
			t.Error("HAProxy answers after it was stopped")
		}
	}
	s.fail("haproxy")
	if err := s.StartHAProxy(); err == nil || !strings.Contains(err.Error(), "run-haproxy ended") || !strings.Contains(err.Error(), "no configuration") {
		t.Errorf("HAProxy that does not start: %v", err)
	}
}
