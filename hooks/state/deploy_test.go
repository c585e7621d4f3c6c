package state

import (
	"errors"
	"os"
	"reflect"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
)

// A push goes through its phases, and what it brings is the app's once it has switched.
func TestPhases(t *testing.T) {
	var a App
	process, own := deployer(t, os.Getpid()), []deploy.Place{{Process: "web", Dyno: "web.1", Container: "old"}}
	asked := 0
	places := func() ([]deploy.Place, error) { asked++; return own, nil }
	phase := func(want Phase) {
		t.Helper()
		if got := a.Phase(); got != want {
			t.Errorf("phase %d, want %d", got, want)
		}
	}
	begin := func(p dokku.Process) {
		t.Helper()
		if err := a.Begin(p, places); err != nil {
			t.Fatal(err)
		}
	}
	v1, v2 := Ports{File: "PORTS", Text: "25:5025"}, Ports{File: "PORTS", Text: "26:5025"}
	phase(None)
	begin(process)
	begin(process)
	if phase(Begun); asked != 1 || !reflect.DeepEqual(a.Deploy.Before, own) {
		t.Errorf("places were asked for %d times, and it began with %v", asked, a.Deploy.Before)
	}
	a.Stage(v1)
	phase(Staged)
	a.Build("one")
	phase(Built)
	a = a.Switched("one", map[string]bool{"one": true})
	if phase(None); a.Current != "one" || !reflect.DeepEqual(a.Images, map[string]Ports{"one": v1}) {
		t.Errorf("after the first push: %+v", a)
	}

	// Another deploy takes the place of one that has not ended.
	begin(process)
	a.Stage(v1)
	begin(dokku.Process{PID: 1})
	phase(Begun)
	a.Stage(v2)
	before := a
	a.Build("two")
	if before.Images["two"] != (Ports{}) {
		t.Error("what a deploy brings changes a copy from before")
	}
	if after := a.Switched("", map[string]bool{"one": true}); after.Current != "one" || len(after.Images) != 1 {
		t.Errorf("no container is of the new image: %+v", after)
	}
	if after := a.Switched("two", nil); after.Current != "two" || !reflect.DeepEqual(after.Images, map[string]Ports{"two": v2}) {
		t.Errorf("no container is of the old image: %+v", after)
	}

	counted := 0
	for _, container := range []string{"a", "b"} {
		a.Retire(container, func() uint64 { counted++; return 7 })
	}
	if counted != 1 || a.Deploy.Unserved != 7 || !reflect.DeepEqual(a.Deploy.Retired, []string{"a", "b"}) {
		t.Errorf("counted %d times: %+v", counted, a.Deploy)
	}
	wrong := errors.New("unreadable")
	if err := a.Begin(dokku.Process{PID: 2}, func() ([]deploy.Place, error) { return nil, wrong }); !errors.Is(err, wrong) || a.Deploy.Process.PID != 1 {
		t.Errorf("got %v, and the deploy of %d", err, a.Deploy.Process.PID)
	}
}
