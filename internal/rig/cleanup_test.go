package rig_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"golang.org/x/sys/unix"

	"dokku-expose/internal/rig"
	"dokku-expose/internal/rig/rigtest"
)

func TestCloseLeavesNothingBehind(t *testing.T) {
	s := newStubbed(t)
	s.must(s.Push("mail", mail))
	s.must(s.Push("mail", mail))
	s.must(s.Push("post", mail))
	ref, err := s.Image("example/mail", mail)
	s.must(err)
	info, err := s.Docker.ImageInspect(t.Context(), ref)
	s.must(err)
	mine := filters.NewArgs(filters.Arg("label", rig.Label+"="+info.Config.Labels[rig.Label]))
	other := rigtest.New(t, func(o *rig.Options) { o.Binary, o.HAProxy = "/bin/true", false })

	count := func() (containers, images int) {
		c, err := other.Docker.ContainerList(t.Context(), container.ListOptions{All: true, Filters: mine})
		s.must(err)
		i, err := other.Docker.ImageList(t.Context(), image.ListOptions{All: true, Filters: mine})
		s.must(err)
		return len(c), len(i)
	}
	if containers, images := count(); containers != 3 || images < 3 {
		t.Fatalf("%d containers and %d images before Close", containers, images)
	}
	s.must(s.Close())
	if containers, images := count(); containers != 0 || images != 0 {
		t.Errorf("%d containers and %d images left", containers, images)
	}
	if _, err := os.Stat(s.Dir); err == nil {
		t.Errorf("%s is still there", s.Dir)
	}
}

// What two images have in common, the removal of one may take from whoever builds the other.
func TestBuildsShareNoSteps(t *testing.T) {
	s := newStubbed(t)
	seen := make(map[string]bool)
	for _, name := range []string{"example/one", "example/two"} {
		ref, err := s.Image(name, mail)
		s.must(err)
		steps, err := s.Docker.ImageHistory(t.Context(), ref)
		s.must(err)
		for _, step := range steps {
			if seen[step.ID] {
				t.Errorf("the step %q of %s is one of the image before it", step.CreatedBy, name)
			}
			seen[step.ID] = true
		}
	}
}

// A test that is interrupted ends without closing its host.
func TestTheNextHostSweepsUpAfterOneThatWasNotClosed(t *testing.T) {
	s := newStubbed(t)
	s.must(s.Push("mail", mail))
	alive, dead := s.current("web.1"), s.Dir+"0"
	// A dead host's traces: its folder, a container and, from when on it is swept up, a lock that nobody holds.
	s.must(os.Mkdir(dead, 0o700))
	defer os.RemoveAll(dead)
	left, err := s.Docker.ContainerCreate(t.Context(), &container.Config{
		Image: s.inspect(alive).Image, Labels: map[string]string{rig.Label: strings.TrimPrefix(filepath.Base(dead), "rig-")},
	}, nil, nil, nil, "")
	s.must(err)
	lock, err := os.Create(filepath.Join(dead, "lock"))
	s.must(err)
	defer lock.Close()

	rigtest.New(t, func(o *rig.Options) { o.Binary, o.HAProxy = "/bin/true", false })
	// The tests of another package may have been first: who sweeps has the lock until all is gone.
	s.must(unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	if _, err := s.Docker.ContainerInspect(t.Context(), left.ID); err == nil {
		t.Error("the dead host's container is still there")
	}
	if _, err := os.Stat(dead); err == nil {
		t.Error("the dead host's folder is still there")
	}
	if !s.inspect(alive).State.Running {
		t.Error("the container of a host that lives does not run any more")
	}
}

func TestFreePort(t *testing.T) {
	a := rigtest.New(t, func(o *rig.Options) { o.Binary, o.HAProxy = "/bin/true", false })
	b := rigtest.New(t, func(o *rig.Options) { o.Binary, o.HAProxy = "/bin/true", false })
	seen := make(map[uint16]bool)
	for range 50 {
		for _, h := range []*rig.Host{a, b} {
			port, err := h.FreePort()
			if err != nil {
				t.Fatal(err)
			}
			if seen[port] {
				t.Errorf("port %d twice", port)
			}
			seen[port] = true
		}
	}
}
