// Package need says what a test can't do without. On a contributor's machine that lacks it the test is skipped with a plain
// message; with CI=true it fails, since a skip there would hide what it skips.
package need

import (
	"context"
	"os"
	"os/exec"
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
	return Program(t, "haproxy", "haproxy")
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
	if !has(unix.CAP_SYS_ADMIN) {
		lack(t, "to run with the capability CAP_SYS_ADMIN")
	}
}

// Namespaces tells whether the test can make network namespaces. A test that would only show more with one logs that it has none,
// and goes on; with CI=true it fails.
func Namespaces(t testing.TB) bool {
	t.Helper()
	_, err := exec.LookPath("ip")
	if err == nil && has(unix.CAP_SYS_ADMIN) && has(unix.CAP_NET_ADMIN) {
		return true
	}
	const lacks = "this test has clients on this host only: another host needs root's capabilities and ip (Debian: apt-get install iproute2)"
	if os.Getenv("CI") == "true" {
		t.Fatal(lacks)
	}
	t.Log(lacks)
	return false
}

func has(capability int) bool {
	var data [2]unix.CapUserData // version 3 has two halves
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
	return err == nil && data[0].Effective&(1<<capability) != 0
}

func lack(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs "+format, args...)
	}
	t.Skipf("this test needs "+format, args...)
}
