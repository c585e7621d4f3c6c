package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"

	"dokku-expose/internal/need"
)

// TestMain lets the test's program have the benchmark's roles, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		main()
	}
	os.Exit(m.Run())
}

// With the kernel's setting that an installation makes, clients that close first use up no ports: there are more of them here than
// local ports, and all connections take less than the minute that TIME_WAIT lasts.
func TestShortConnectionsLoseNone(t *testing.T) {
	need.HAProxy(t)
	need.Program(t, "ip", "iproute2")
	need.Program(t, "iptables", "iptables")
	need.Root(t)
	probe := exec.Command("true")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := probe.Run(); errors.Is(err, syscall.EPERM) {
		t.Skipf("this root may not make a network namespace: %v", err)
	}
	var stdout, stderr bytes.Buffer
	args := []string{"-rate", "200", "-for", "8s", "-sysctl", "net.ipv4.tcp_tw_reuse=1 net.ipv4.ip_local_port_range=40000,40999"}
	if code := run(t.Context(), args, &stdout, &stderr); code != 0 {
		t.Fatalf("exit status %d: %s", code, &stderr)
	}
	t.Logf("\n%s", &stdout)
	for _, name := range proxyNames {
		// The columns are: connections, lost, three times, the other app's lost, two times, the host's lost.
		row := regexp.MustCompile(`(?m)^\| ` + name + ` +\| +1,600 \| +0 \|( +[\d.,]+ \|){3} +0 \|( +[\d.,]+ \|){2} +0 \|`)
		if !row.Match(stdout.Bytes()) {
			t.Errorf("with %s, connections were lost", name)
		}
	}
}

func TestArgumentsThatMakeNoSense(t *testing.T) {
	for _, args := range [][]string{{"-rate", "0"}, {"-for", "-1s"}, {"-proxies", "nginx"}, {"all"}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, nil, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit status %d, %q", args, code, &stderr)
		}
	}
}
