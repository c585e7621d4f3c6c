package haproxy

import (
	"os"
	"testing"

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
