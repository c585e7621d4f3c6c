// Package need says what a test can't do without. On a contributor's machine that lacks it the test is skipped with a plain
// message; with CI=true it fails, since a skip there would hide what it skips.
package need

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"
)

// Docker wants a Docker engine that answers, as DOCKER_HOST names it.
func Docker(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err == nil {
		defer c.Close()
		_, err = c.Ping(ctx)
	}
	if err != nil {
		lack(t, "a running Docker engine (Debian: apt-get install docker.io): %v", err)
	}
}

// HAProxy wants the haproxy program and returns its path.
func HAProxy(t testing.TB) string {
	t.Helper()
	// Debian's place for it is not on every user's PATH.
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy", "/usr/local/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	lack(t, "haproxy (Debian: apt-get install haproxy)")
	return ""
}

// Root wants user id 0.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		lack(t, "to run as root")
	}
}

// Mounts wants the right to mount file systems, which root in a container may not have.
func Mounts(t testing.TB) {
	t.Helper()
	Root(t)
	var data [2]unix.CapUserData // version 3 has two halves
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
	if err != nil || data[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		lack(t, "to run with the capability CAP_SYS_ADMIN")
	}
}

func lack(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs "+format, args...)
	}
	t.Skipf("this test needs "+format, args...)
}
