package need

import (
	"os/exec"
	"testing"
)

// Program wants a program on the PATH; pkg is its package on Debian.
func Program(t testing.TB, name, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		lack(t, "%s (Debian: apt-get install %s)", name, pkg)
	}
}
