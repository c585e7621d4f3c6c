package dokku

import (
	"os"
	"path/filepath"
	"testing"
)

// host makes a Dokku host of files, named relative to its folder: "root/..." is DOKKU_ROOT, "lib/..." DOKKU_LIB_ROOT. A
// name that ends with a slash makes a folder.
func host(t *testing.T, files map[string]string) Env {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"root", "lib/config"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		folder := filepath.Dir(path)
		if name[len(name)-1] == '/' {
			folder = path
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if folder == path {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Env{Root: filepath.Join(dir, "root"), LibRoot: filepath.Join(dir, "lib"), NotImplementedExit: 10}
}

// migrated is the mark of Dokku 0.38.
const migrated = "lib/config/config/--global/env-migrated"
