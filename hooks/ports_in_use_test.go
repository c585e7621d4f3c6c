package hooks_test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"dokku-expose/internal/rig"
)

// A host that has few local ports left for a container says so in check and in the daemon's log, and the container keeps its place.
// TestPortLacks holds the words of the list when there are none left: to take the last of them costs the kernel half a minute.
func TestHostWithFewLocalPorts(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public := h.port()
		h.push("mail", source("v1", lead(public, private)))
		h.watched()
		info, err := h.Docker.ContainerInspect(t.Context(), h.current("mail", "web.1"))
		h.must(err)
		give := takeLocalPorts(h, net.JoinHostPort(info.NetworkSettings.Networks["bridge"].IPAddress, fmt.Sprint(private)))
		h.wants(h.expose(1, "check").Stderr, fmt.Sprintf("mail: public port %d: at least half of the ", public), "that connections to web.1", "ip_local_port_range")
		h.must(h.SignalDaemon(syscall.SIGHUP))
		await(t, "the daemon's log tells of it", func() bool { return last(h.daemonLog(), "msg=problem", "at least half of the") != "" })
		h.answers(public, "v1")
		give()
		h.must(h.SignalDaemon(syscall.SIGHUP))
		await(t, "it is solved", func() bool { return last(h.daemonLog(), "msg=solved", "at least half of the") != "" })
		h.expose(0, "check")
	})
}

// localPorts lets one test at a time have that many connections: they are all files of this process.
var localPorts sync.Mutex

// takeLocalPorts takes more than half of the local ports that this host has for connections to an address. give gives them back, which
// leaves no TIME_WAIT.
func takeLocalPorts(h *host, address string) (give func()) {
	h.t.Helper()
	localPorts.Lock()
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	h.must(err)
	limits := strings.Fields(string(text))
	first, err := strconv.Atoi(limits[0])
	h.must(err)
	end, err := strconv.Atoi(limits[1])
	h.must(err)
	var conns []*net.TCPConn
	give = sync.OnceFunc(func() {
		defer localPorts.Unlock()
		for _, c := range conns {
			_ = c.SetLinger(0)
			_ = c.Close()
		}
	})
	h.t.Cleanup(give)
	for range (end-first)/2 + 10 {
		conn, err := net.Dial("tcp4", address)
		h.must(err)
		conns = append(conns, conn.(*net.TCPConn))
	}
	return give
}
