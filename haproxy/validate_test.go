package haproxy

import (
	"errors"
	"os"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/internal/need"
)

// Dokku's hooks run as its user in whatever folder the operator called Dokku from. One that user may not enter is as good
// as one that is gone, which root can test.
func TestValidateWorksInAnyFolder(t *testing.T) {
	e := New(Config{Binary: need.HAProxy(t)})
	folder := t.TempDir()
	t.Chdir(folder)
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if err := e.validate(t.Context(), wanted{files: files{text: []byte("listen test\n    mode tcp\n    bind 127.0.0.1:1\n    timeout client 1s\n")}}); err != nil {
		t.Error(err)
	}
}

func TestValidateBlamesTheRoute(t *testing.T) {
	e := New(Config{Binary: need.HAProxy(t), StatsSocket: "/nowhere"})
	w, err := e.want([]deploy.Route{
		{App: "good", Key: deploy.Key{Port: 2500}},
		{App: "bad", Key: deploy.Key{Port: 2501}},
		{App: "ugly", Key: deploy.Key{Port: 2502}},
	}, &snapshot{}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.validate(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, old, replacement string
		app                    string // "": nobody is to blame
	}{
		{"a route", "bind 0.0.0.0:2501", "bond 0.0.0.0:2501", "bad"},
		{"the last one", "bind 0.0.0.0:2502", "bind nonsense", "ugly"},
		{"what all have in common", "timeout connect", "timeout commect", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			broken := w
			broken.text = []byte(strings.Replace(string(w.text), c.old, c.replacement, 1))
			err := e.validate(t.Context(), broken)
			if err == nil || !strings.Contains(err.Error(), "[/dev/stdin:") {
				t.Fatalf("got %v, want an error with HAProxy's words", err)
			}
			var bad *rejection
			switch {
			case errors.As(err, &bad) != (c.app != ""):
				t.Errorf("got %v", err)
			case bad != nil && (len(bad.routes) != 1 || bad.routes[0].App != c.app):
				t.Errorf("blamed %v, want %s", bad.routes, c.app)
			}
		})
	}
}
