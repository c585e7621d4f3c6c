package host

import (
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"dokku-expose/hooks/dokku"
)

// Hooks, the daemon and HAProxy's start may be the first to ask for the password, at the same time.
func TestAllHaveTheSamePassword(t *testing.T) {
	for _, tt := range []struct {
		name string
		text *string
	}{{"no file", nil}, {"an empty file", new(string)}} {
		t.Run(tt.name, func(t *testing.T) {
			lib := t.TempDir()
			env := map[string]string{"DOKKU_ROOT": t.TempDir(), "DOKKU_LIB_ROOT": lib}
			file := filepath.Join(lib, "data", dokku.Plugin, "stats-password")
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if tt.text != nil {
				if err := os.WriteFile(file, []byte(*tt.text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var (
				all       sync.WaitGroup
				start     = make(chan struct{})
				passwords [32]string
			)
			for i := range passwords {
				all.Go(func() {
					h, err := New(func(key string) string { return env[key] }, nil, io.Discard, io.Discard)
					if err != nil {
						t.Error(err)
						return
					}
					<-start
					if passwords[i], err = h.StatsPassword(); err != nil {
						t.Error(err)
					}
				})
			}
			close(start)
			all.Wait()
			for _, password := range passwords {
				if password == "" || password != passwords[0] {
					t.Fatalf("the passwords are %q, want one", passwords)
				}
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file: %v, %v; want that nobody else reads it", info, err)
			}
		})
	}
}
