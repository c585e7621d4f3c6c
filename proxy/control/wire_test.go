package control

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy/enginetest"
	"dokku-expose/proxy/proxytest"
)

// A daemon with more ports than go with one piece of a message, and hardly a file left, is taken over from all the same.
func TestManyPortsAreHandedOver(t *testing.T) {
	const ports, left = 300, filesAtOnce + 32
	dir := folder(t)
	config := processConfig{Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth"), Drain: proxytest.Patience}
	routes := proxytest.RoutesTo(t, ports, "mail", enginetest.NewServer(t, "v1"))
	for i := range routes {
		routes[i].HealthCheck = 0
	}
	truth(t, config.Truth, routes...)
	old := startProcess(t, config)
	held := proxytest.Dial(t, routes[0].Key.Port)
	held.Greeting()
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(old.worker), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	limit := uint64(len(open) + left)
	if err := unix.Prlimit(old.worker, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}, nil); err != nil {
		t.Fatal(err)
	}
	startProcess(t, config)
	for _, r := range routes {
		if got := proxytest.Dial(t, r.Key.Port).Greeting(); got != "v1" {
			t.Errorf("%s answered at %s", got, r.Key)
		}
	}
	held.Echo()
}
