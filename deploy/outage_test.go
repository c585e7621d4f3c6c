package deploy

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOutageTellsTheReason(t *testing.T) {
	at := time.Date(2026, 11, 29, 17, 0, 1, 0, time.FixedZone("", 3600))
	local := at.Local().Format("Jan 2 15:04:05")
	for _, tt := range []struct {
		name  string
		state string
		end   *End
		want  string
	}{
		{"a crash", "exited", &End{Code: 3, At: at, Restarts: 10}, "has ended with exit code 3 at " + local + ", after 10 restarts by Docker;"},
		{"killed", "exited", &End{Code: 137, At: at}, "has ended with exit code 137 (SIGKILL) at " + local + ";"},
		{"out of memory", "exited", &End{Code: 137, OutOfMemory: true, At: at}, "has ended with exit code 137 (out of memory) at"},
		{"between two crashes", "restarting", &End{Code: 1, At: at, Restarts: 4}, "crashes again and again, last with exit code 1 at " + local + ", after 4 restarts"},
		{"started again meanwhile", "exited", &End{Code: -1, At: at, Restarts: 1}, "has ended at " + local + ", after a restart by Docker;"},
		{"can't be started again", "exited", &End{Code: 127, At: at, Failure: "no such file"}, "has ended with exit code 127 at " + local + ": no such file;"},
		{"was never started", "created", &End{Failure: "port is already allocated"}, "was never started: port is already allocated;"},
		{"was never started, and nobody knows why", "created", &End{}, "was never started;"},
		{"paused", "paused", nil, "is paused (docker container unpause mail-1)"},
		{"Docker does not say how it ended", "exited", nil, `does not run (Docker says "exited")`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := &Outage{
				App: "mail", Process: "web", Claims: []Claim{claim("mail", 25, 15025, "web")},
				places: []Place{place("web.1", "mail-1")},
				states: map[string]Endpoint{"mail-1": {ID: "mail-1", App: "mail", State: tt.state}},
			}
			if asked := slices.Contains(o.Ended(), "mail-1"); asked != (tt.state != "paused") {
				t.Errorf("Docker is asked about how it ended: %t", asked)
			}
			if tt.end != nil {
				o.Explain("mail-1", *tt.end)
			}
			if got := o.Error(); !strings.Contains(got, "web.1 (mail-1) "+tt.want) {
				t.Errorf("got %q, want %q in it", got, tt.want)
			}
		})
	}
	t.Run("a hint at what the container said is for one that has said something", func(t *testing.T) {
		const hint = "dokku logs mail"
		gone := &Outage{App: "mail", Process: "web", places: []Place{place("web.1", "mail-1")}}
		if got := gone.Error(); !strings.HasSuffix(got, "is gone from Docker; start the app anew: dokku ps:restart mail") {
			t.Errorf("the container is gone: %q", got)
		}
		gone.states = map[string]Endpoint{"mail-1": {ID: "mail-1", App: "mail", State: "created"}}
		gone.Explain("mail-1", End{Failure: "port is already allocated"})
		if got := gone.Error(); strings.Contains(got, hint) {
			t.Errorf("the container has never run: %q", got)
		}
		gone.Explain("mail-1", End{Code: 1, At: at})
		if got := gone.Error(); !strings.Contains(got, hint) {
			t.Errorf("the container has ended: %q", got)
		}
	})
	t.Run("an app that Dokku does not scale", func(t *testing.T) {
		o := &Outage{App: "mail", Process: "imap", Claims: []Claim{claim("mail", 993, 5993, "imap")}, Unscalable: true}
		if got := o.Error(); !strings.Contains(got, "formation.imap.quantity") || strings.Contains(got, "dokku ps:scale") {
			t.Errorf("got %q", got)
		}
	})
}

// Dokku stops the containers of the former name in the midst of a rename. That is no outage until the rename has ended.
func TestRenameIsNoOutage(t *testing.T) {
	s := new(scene)
	s.container("mail-1", imageA, "web.1", 1)
	s.stop("mail-1")
	post := mail(place("web.1", "mail-1"))
	post.Name = "post"
	post.Deploying = &Deployment{Former: "mail", Before: post.Places}
	if _, problems := s.plan(post); len(problems) > 0 {
		t.Errorf("in the midst of it: %v", problems)
	}
	post.Deploying = nil
	if _, problems := s.plan(post); len(problems) != 1 {
		t.Errorf("when it has ended without a container: %v", problems)
	}
}
