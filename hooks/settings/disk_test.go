package settings

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"dokku-expose/internal/need"
)

func TestFullDisk(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k")
	if errors.Is(err, syscall.EPERM) && os.Getenv("CI") != "true" {
		t.Skip("this test needs to mount a small file system, and root may not in here")
	}
	if err != nil {
		t.Fatalf("a small file system can't be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := Store{Dir: filepath.Join(dir, "expose")}
	if err := s.Set("mail", "hold", "1s"); err != nil {
		t.Fatal(err)
	}
	before := text(t, s, "mail")
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	if closed := filler.Close(); closed != nil || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk was to be full: %v, %v", err, closed)
	}

	err = s.Set("mail", "hold", "2s")
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "is left as it was") {
		t.Errorf("error %v, want one that says that the disk is full and what became of the file", err)
	}
	if got := text(t, s, "mail"); got != before {
		t.Errorf("the file is %q, want it as it was: %q", got, before)
	}
	entries, err := os.ReadDir(filepath.Join(s.Dir, "apps"))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v; want nothing but the file", entries, err)
	}

	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	if err := s.Set("mail", "hold", "2s"); err != nil || text(t, s, "mail") != "hold = \"2s\"\n" {
		t.Errorf("with room again: %v, %q", err, text(t, s, "mail"))
	}
}

func TestOwnerAndMode(t *testing.T) {
	need.Root(t)
	s := store(t, map[string]string{"mail": "hold = \"1s\"\n"})
	path, err := s.path("mail")
	if err != nil {
		t.Fatal(err)
	}
	const user, group = 12345, 12346
	for _, change := range []error{
		os.Chown(s.Dir, user, group), os.Chown(path, user+1, group+1), os.Chmod(path, 0o640), os.Chown(filepath.Dir(path), user, group),
	} {
		if change != nil {
			t.Fatal(change)
		}
	}
	if err := s.Set("mail", "hold", "2s"); err != nil {
		t.Fatal(err)
	}
	if err := s.Set("post", "hold", "2s"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		app        string
		user, mode uint32
	}{{"mail", user + 1, 0o640}, {"post", user, 0o644}} {
		info, err := os.Stat(filepath.Join(s.Dir, "apps", want.app+".toml"))
		if err != nil {
			t.Fatal(err)
		}
		stat := info.Sys().(*syscall.Stat_t)
		if stat.Uid != want.user || stat.Gid != want.user+1 || uint32(info.Mode().Perm()) != want.mode {
			t.Errorf("%s is %d:%d, %o; want %d:%d, %o", want.app, stat.Uid, stat.Gid, info.Mode().Perm(), want.user, want.user+1, want.mode)
		}
	}

	if err := os.RemoveAll(filepath.Join(s.Dir, "apps")); err != nil {
		t.Fatal(err)
	}
	if err := s.Set("mail", "hold", "2s"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(s.Dir, "apps"))
	if err != nil {
		t.Fatal(err)
	}
	if stat := info.Sys().(*syscall.Stat_t); stat.Uid != user || stat.Gid != group {
		t.Errorf("the new folder is %d:%d, want %d:%d", stat.Uid, stat.Gid, user, group)
	}
}

func TestLinkStays(t *testing.T) {
	s := store(t, map[string]string{Global: "hold = \"1s\"\n"})
	path := filepath.Join(s.Dir, "global.toml")
	elsewhere := filepath.Join(t.TempDir(), "dokku-expose.toml")
	if err := os.Rename(path, elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Fatal(err)
	}
	if err := s.Set(Global, "hold", "2s"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(elsewhere)
	if info, lerr := os.Lstat(path); lerr != nil || info.Mode()&os.ModeSymlink == 0 || err != nil || string(got) != "hold = \"2s\"\n" {
		t.Errorf("the link is %v, %v, its file %q, %v", info, lerr, got, err)
	}
}

// Readers hold no lock: whenever they look, they find a whole file.
func TestReadWhileWriting(t *testing.T) {
	s := store(t, map[string]string{"mail": strings.Repeat("# a comment\n", 1000) + "hold = \"1s\"\n"})
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			if app, err := s.Load("mail"); err != nil || app.Settings["hold"] == "" {
				t.Errorf("found %v, %v", app, err)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for i := range 50 {
		if err := s.Set("mail", "hold", []string{"1s", "2s"}[i%2]); err != nil {
			t.Error(err)
		}
	}
	close(done)
	reader.Wait()
}
