package need

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Program wants a program and returns its path; pkg is its package on Debian.
func Program(t testing.TB, name, pkg string) string {
	t.Helper()
	// Debian's place for daemons is not on every user's PATH.
	for _, name := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(name); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	lack(t, "%s (Debian: apt-get install %s)", name, pkg)
	return ""
}
