package dokku

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommitted(t *testing.T) {
	e := host(t, map[string]string{"root/mail/": "", "root/none/": "", "lib/config/git/mail/deploy-branch": ""})
	git := func(dir string, args ...string) {
		t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	work, bare := t.TempDir(), filepath.Join(e.Root, "mail")
	git(bare, "init", "-q", "--bare")
	git(work, "init", "-q", "-b", "live")
	if err := os.MkdirAll(filepath.Join(work, "ops"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"PORTS": "25:5025\n", "ops/PORTS": "26:5026\n"} {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git(work, "add", ".")
	git(work, "commit", "-q", "-m", "ports")
	git(work, "push", "-q", bare, "live")

	read := func(app, file string) (string, error) {
		t.Helper()
		text, err := e.Committed(t.Context(), app, file)
		return string(text), err
	}
	if text, err := read("mail", "PORTS"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a branch that is not there: %q, %v", text, err)
	}
	if err := os.WriteFile(filepath.Join(e.LibRoot, "config/git/mail/deploy-branch"), []byte("live"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, app, file, want string }{
		{"a file", "mail", "PORTS", "25:5025"},
		{"one in a folder", "mail", "ops/PORTS", "26:5026"},
		{"one that is not there", "mail", "ops/none", ""},
		{"an app without a repository", "none", "PORTS", ""},
	} {
		text, err := read(tt.app, tt.file)
		if text != tt.want || (tt.want == "") != errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", tt.name, text, err)
		}
	}
	if err := os.RemoveAll(filepath.Join(bare, "objects")); err != nil {
		t.Fatal(err)
	}
	if text, err := read("mail", "PORTS"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "mail") {
		t.Errorf("of a broken repository: %q, %v", text, err)
	}
}
