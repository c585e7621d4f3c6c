package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dokku-expose/portsfile"
)

func TestReadSource(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("22:22\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := func(target string) func(string) error {
		return func(path string) error { return os.Symlink(target, path) }
	}
	file := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o644) }
	}
	folder := func(path string) error { return os.Mkdir(path, 0o755) }
	pipe := func(path string) error { return syscall.Mkfifo(path, 0o644) }

	type made struct {
		path string
		make func(string) error
	}
	tests := []struct {
		name string
		tree []made
		file string
		want string
		err  string // "" none, "missing", or what the error says
	}{
		{"regular file", []made{{"PORTS", file("25:5025\n")}}, "PORTS", "25:5025\n", ""},
		{"none", nil, "PORTS", "", "missing"},
		{"in a folder", []made{{"ops", folder}, {"ops/PORTS", file("25:5025")}}, "ops/PORTS", "25:5025", ""},
		{"its folder is missing", nil, "ops/PORTS", "", "missing"},
		{"its folder is a file", []made{{"ops", file("")}}, "ops/PORTS", "", "ops is a file"},
		{"link out of the tree", []made{{"PORTS", link(secret)}}, "PORTS", "", "PORTS is a symbolic link"},
		{"link within the tree", []made{{"p", file("25:1")}, {"PORTS", link("p")}}, "PORTS", "", "PORTS is a symbolic link"},
		{"dangling link", []made{{"PORTS", link("/nowhere")}}, "PORTS", "", "PORTS is a symbolic link"},
		{"folder is a link out of the tree", []made{{"ops", link(filepath.Dir(secret))}}, "ops/secret", "", "ops is a symbolic link"},
		{"folder", []made{{"PORTS", folder}}, "PORTS", "", "missing"},
		{"pipe that nobody writes to", []made{{"PORTS", pipe}}, "PORTS", "", "PORTS is a special file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, m := range tt.tree {
				if err := m.make(filepath.Join(dir, m.path)); err != nil {
					t.Fatal(err)
				}
			}
			text, err := ReadSource(dir, tt.file)
			switch {
			case tt.err == "" && err != nil:
				t.Error(err)
			case tt.err == "missing" && !errors.Is(err, fs.ErrNotExist):
				t.Errorf("error %v, want fs.ErrNotExist", err)
			case tt.err != "" && tt.err != "missing" && (err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("error %v, want one that says %q", err, tt.err)
			}
			if string(text) != tt.want {
				t.Errorf("read %q, want %q", text, tt.want)
			}
		})
	}
}

func TestReadSourceIsBounded(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "PORTS"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	text, err := ReadSource(dir, "PORTS")
	if err != nil {
		t.Fatal(err)
	}
	if len(text) != portsfile.MaxSize+1 {
		t.Errorf("read %d bytes of a large file, want %d", len(text), portsfile.MaxSize+1)
	}
}
