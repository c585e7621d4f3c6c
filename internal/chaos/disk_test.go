package chaos_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/internal/need"
	"dokku-expose/internal/rig"
)

var diskFaults = []fault{
	{name: "disk full, a deploy", promise: loseOwn, short: true, inject: func(s *scene) { s.deployInVain(s.fill()) }},
	{name: "disk full, addresses swapped", promise: loseOwn, short: true, inject: func(s *scene) { s.swapAndWait(s.fill()) }},
	{name: "disk read-only, addresses swapped", promise: loseOwn, inject: func(s *scene) { s.swapAndWait(s.readOnly()) }},
	{name: "disk read-only, a deploy", promise: loseOwn, inject: func(s *scene) { s.deployInVain(s.readOnly()) }},
}

// deployInVain deploys what must fail, and then, on a disk that is well again, what must not.
func (s *scene) deployInVain(mend func()) {
	s.t.Helper()
	defer mend()
	a := s.chat()
	a.version++
	s.fails(s.Push(a.name, a.source()))
	mend()
	s.push(a)
}

func (s *scene) swapAndWait(mend func()) {
	s.t.Helper()
	defer mend()
	s.swap()
	<-time.After(pause)
}

// data is the folder with what the plugin keeps.
func (s *scene) data() string { return filepath.Join(s.Lib, "data", rig.Plugin) }

// smallDisk puts a file system of its own under the plugin's data, where that is possible. It is made before anything is there.
func (s *scene) smallDisk(t *testing.T) {
	t.Helper()
	err := unix.Mount("tmpfs", s.data(), "tmpfs", 0, "size=1m,mode=755")
	if errors.Is(err, unix.EPERM) {
		return // fill and readOnly say so
	}
	s.must(err)
	undoAtEnd(t, `umount -l "$1"`, s.data())
	s.must(os.Mkdir(filepath.Join(s.data(), "haproxy"), 0o755))
}

// fill leaves no room on the disk until it is mended.
func (s *scene) fill() (mend func()) {
	s.t.Helper()
	need.Mounts(s.t)
	file, err := os.Create(filepath.Join(s.data(), "filler"))
	s.must(err)
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, os.Getpagesize()))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		s.must(err)
	}
	return func() { _ = os.Remove(file.Name()) } // it may be gone
}

func (s *scene) readOnly() (mend func()) {
	s.t.Helper()
	need.Mounts(s.t)
	remount := func(flags uintptr) error { return unix.Mount("", s.data(), "", unix.MS_REMOUNT|flags, "") }
	// Not while somebody writes.
	s.await("the disk is read-only", func() bool { return remount(unix.MS_RDONLY) == nil })
	return func() { s.must(remount(0)) }
}

// undoAtEnd runs a shell script when the test ends, or this process does in whatever way.
func undoAtEnd(t *testing.T, script string, args ...string) {
	t.Helper()
	// `cat` ends with its standard input, which ends with this process.
	undo := exec.Command("sh", append([]string{"-c", "cat; " + script, "undo"}, args...)...)
	undo.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	undo.Stderr = t.Output()
	stdin, err := undo.StdinPipe()
	if err == nil {
		err = undo.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := undo.Wait(); err != nil {
			t.Errorf("%s: %v", undo, err)
		}
	})
}
