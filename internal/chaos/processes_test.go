package chaos_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var processFaults = []fault{
	{name: "daemon killed", promise: loseNothing, short: true, inject: func(s *scene) { s.killProcess(s.DaemonGroup()) }},
	{name: "daemon's worker killed", engine: "haproxy", promise: loseNothing, inject: (*scene).killDaemonWorker},
	{name: "daemon's worker killed", engine: "builtin", promise: loseEngine, short: true, inject: (*scene).killDaemonWorker},
	{name: "HAProxy's master killed", engine: "haproxy", promise: loseEngine, short: true, inject: func(s *scene) {
		master := s.HAProxyGroup()
		workers := s.children(master)
		s.killProcess(master)
		for _, pid := range workers {
			s.awaitEnd(pid)
		}
	}},
	{name: "HAProxy's worker killed", engine: "haproxy", promise: loseEngine, short: true, inject: func(s *scene) {
		for _, pid := range s.children(s.HAProxyGroup()) {
			s.killProcess(pid)
		}
	}},
	{name: "HAProxy's worker stopped for seconds", engine: "haproxy", promise: loseNothing, inject: func(s *scene) {
		for _, pid := range s.children(s.HAProxyGroup()) {
			s.freeze(pid)
		}
	}},
	{name: "daemon's worker stopped for seconds", promise: loseNothing, inject: func(s *scene) {
		for _, pid := range s.children(s.DaemonGroup()) {
			s.freeze(pid)
		}
	}},
	{name: "reboot, containers before services", promise: loseEngine, inject: func(s *scene) {
		ids := s.powerOff()
		s.start(ids...)
		s.boot()
	}},
	{name: "reboot, services before containers", promise: loseEngine, short: true, inject: func(s *scene) {
		ids := s.powerOff()
		s.boot()
		s.start(ids...)
	}},
}

// killDaemonWorker leaves the main process, which ends when it sees that.
func (s *scene) killDaemonWorker() {
	s.t.Helper()
	for _, pid := range s.children(s.DaemonGroup()) {
		s.killProcess(pid)
	}
}

// powerOff ends everything. It returns the containers in an order that gives them other addresses than they had.
func (s *scene) powerOff() (ids []string) {
	s.t.Helper()
	ids = s.others()
	s.must(s.PowerOff())
	s.kill(ids...)
	return ids
}

// boot starts what the units start, in their order.
func (s *scene) boot() {
	s.t.Helper()
	if s.engine == "haproxy" {
		s.must(s.StartHAProxy())
	}
	s.must(s.StartDaemon())
}

// killProcess is kill -9, and waits for the end.
func (s *scene) killProcess(pid int) {
	s.t.Helper()
	s.must(syscall.Kill(pid, syscall.SIGKILL))
	s.awaitEnd(pid)
}

func (s *scene) awaitEnd(pid int) {
	s.t.Helper()
	s.await("process "+strconv.Itoa(pid)+" has ended", func() bool {
		state, _, ok := stat(pid)
		return !ok || state == "Z"
	})
}

// freeze stops a process for a while.
func (s *scene) freeze(pid int) {
	s.t.Helper()
	s.must(syscall.Kill(pid, syscall.SIGSTOP))
	<-time.After(pause)
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
		s.must(err)
	}
}

// children are the processes that a service's main process has started. There are some.
func (s *scene) children(main int) []int {
	s.t.Helper()
	pids, err := children(main)
	s.must(err)
	if len(pids) == 0 {
		s.t.Fatalf("process %d has no children", main)
	}
	return pids
}

// children are the processes that a process has started, and that have not ended.
func children(parent int) (pids []int, err error) {
	entries, err := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if state, of, ok := stat(pid); ok && of == parent && state != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// stat tells a process's state and its parent, as proc(5) says. It is false for one that is gone.
func stat(pid int) (state string, parent int, ok bool) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", 0, false
	}
	// The name, in parentheses, may have any bytes in it.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return "", 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return fields[0], parent, err == nil
}
