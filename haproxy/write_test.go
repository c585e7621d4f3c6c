package haproxy

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"dokku-expose/internal/need"
)

// HAProxy runs as a user of its own, who reads the configuration by the folder's group.
func TestWriteKeepsTheFoldersGroup(t *testing.T) {
	need.Root(t)
	const group = 54321
	folder := t.TempDir()
	if err := os.Chown(folder, -1, group); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o750|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	// On the same file system as the folder, as /tmp and /var are on many hosts.
	t.Setenv("TMPDIR", t.TempDir())

	e := New(Config{ConfigFile: filepath.Join(folder, "haproxy.cfg")})
	for _, text := range []string{"first\n", "second\n"} {
		if err := e.write(files{text: []byte(text)}, files{}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"haproxy.cfg", "haproxy.json"} {
			info, err := os.Stat(filepath.Join(folder, name))
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Sys().(*syscall.Stat_t).Gid; got != group {
				t.Errorf("after writing %q the group of %s is %d, want the folder's, %d", text, name, got, group)
			}
			if got := info.Mode().Perm(); got != 0o640 {
				t.Errorf("after writing %q the mode of %s is %o, want 640", text, name, got)
			}
		}
	}
}
