package state

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
)

func deployer(t *testing.T, pid int) dokku.Process {
	t.Helper()
	p, err := dokku.Env{PID: pid}.Deploy()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSaveAndLoad(t *testing.T) {
	s := Store{Dir: filepath.Join(t.TempDir(), "apps")}
	want := App{
		Current: "sha256:a",
		Images:  map[string]Ports{"sha256:a": {File: "PORTS", Text: "25:5025 # \"mail\"\r\n"}},
		Stopped: true,
		Deploy: &Deploy{
			Process: deployer(t, os.Getpid()),
			Before:  []deploy.Place{{Process: "web", Dyno: "web.1", Container: strings.Repeat("a", 64)}},
			Retired: []string{"b"},
			Pending: &Ports{File: "PORTS", Text: ""},
		},
	}
	if s.Known("mail") {
		t.Error("an app is known before anything was saved")
	}
	if err := s.Save("mail", want); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load("mail")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("loaded %+v\nwant %+v", got, want)
	}
	if apps, err := s.Apps(); err != nil || !slices.Equal(apps, []string{"mail"}) || !s.Known("mail") {
		t.Errorf("apps: %v, %v", apps, err)
	}
}

func TestWhatIsNotWorthRememberingIsForgotten(t *testing.T) {
	tests := []struct {
		name  string
		app   App
		known bool
	}{
		{"nothing", App{}, false},
		{"images without any mapping", App{Current: "a", Images: map[string]Ports{"a": {File: "PORTS"}}}, false},
		{"a mapping", App{Images: map[string]Ports{"a": {Text: "25:1"}}}, true},
		{"stopped", App{Stopped: true}, true},
		{"a deploy", App{Deploy: &Deploy{Process: deployer(t, os.Getpid())}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := Store{Dir: t.TempDir()}
			for _, a := range []App{{Stopped: true}, tt.app} {
				if err := s.Save("mail", a); err != nil {
					t.Fatal(err)
				}
			}
			if s.Known("mail") != tt.known {
				t.Errorf("known: %v, want %v", s.Known("mail"), tt.known)
			}
		})
	}
}

func TestDeployEndsWithItsProcess(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	process := exec.Command("cat")
	stdin, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	saved := App{Stopped: true, Deploy: &Deploy{Process: deployer(t, process.Process.Pid), Pending: &Ports{Text: "25:1"}}}
	if err := s.Save("mail", saved); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Load("mail"); err != nil || a.Deploy == nil {
		t.Errorf("a deploy whose process lives is left out: %+v, %v", a, err)
	}
	stdin.Close()
	if err := process.Wait(); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Load("mail"); err != nil || a.Deploy != nil || !a.Stopped {
		t.Errorf("of an app whose deploy died: %+v, %v", a, err)
	}
}

func TestRenameHandsOver(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	old := App{Current: "a", Images: map[string]Ports{"a": {Text: "25:1"}}, Stopped: true}
	if err := s.Save("mail", old); err != nil {
		t.Fatal(err)
	}
	if err := s.Rename("mail", "post"); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load("post")
	if err != nil || got.Stopped || got.Images["a"].Text != "25:1" || s.Known("mail") {
		t.Errorf("after the rename: %+v, %v, old one known: %v", got, err, s.Known("mail"))
	}
}

func TestBrokenFileNamesItselfAndTheRemedy(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	path := filepath.Join(s.Dir, "mail.json")
	if err := os.WriteFile(path, []byte(`{"current": `), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Load("mail")
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "dokku ps:rebuild mail") {
		t.Errorf("error %v", err)
	}
}

func TestNamesNeverLeaveTheFolder(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	for _, name := range []string{"", "..", "../x", "a/b", "/etc/passwd", "A"} {
		if err := s.Save(name, App{Stopped: true}); err == nil {
			t.Errorf("saved for an app called %q", name)
		}
		if _, err := s.Load(name); err == nil {
			t.Errorf("loaded for an app called %q", name)
		}
	}
}
