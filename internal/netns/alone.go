package netns

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dokku-expose/internal/need"
)

// aloneVariable tells a test that it is in a network of its own.
const aloneVariable = "DOKKU_EXPOSE_TEST_ALONE"

// Alone runs the test in a process with a network of its own, with loopback and so many local ports for connections to each address. It
// is false in the process that only waits for that one.
func Alone(t *testing.T, ports int) bool {
	t.Helper()
	if os.Getenv(aloneVariable) == "" {
		need.Mounts(t)
		command := exec.Command(os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
		command.Env = append(os.Environ(), aloneVariable+"=1")
		command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return false
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	loopback.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, loopback); err != nil {
		t.Fatal(err)
	}
	first := 40000
	limits := fmt.Sprintf("%d %d", first, first+ports-1)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte(limits), 0o644); err != nil {
		t.Fatal(err)
	}
	return true
}
