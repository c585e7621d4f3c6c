package proxy

import (
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/netns"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/proxytest"
)

// noMoreWatches has the kernel answer to all threads of this process as when fs.epoll.max_user_watches is reached. The real limit is
// millions, and the whole host's.
func noMoreWatches(t *testing.T) {
	t.Helper()
	const number, operation = 0, 24 // of struct seccomp_data: the call, and its second argument
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_EPOLL_CTL, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: operation},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.EPOLL_CTL_ADD, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSPC)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&filter))); errno != 0 {
		t.Fatalf("seccomp: %v", errno)
	}
}

// When this host lets a user watch no more connections, no server is down for that, and the log says what there is too little of: for
// a server that takes its time to answer, and for one that answers at once.
func TestNoMoreWatches(t *testing.T) {
	if !netns.Alone(t, 1000) {
		return
	}
	var slowLog, quickLog wait.Buffer
	slowServer := newServerWith(t, slog.New(slog.NewTextHandler(&slowLog, nil)), nil)
	quickServer := newServerWith(t, slog.New(slog.NewTextHandler(&quickLog, nil)), nil)
	// Its server comes when the listener is there already, which has to be watched itself.
	slow := proxytest.RouteTo("mail", enginetest.FreePort(t))
	slow.HealthCheck = 10 * time.Millisecond
	proxytest.Apply(t, slowServer, slow)
	// It never has to accept.
	fd := listening(t)
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	quick := proxytest.RouteTo("chat", enginetest.FreePort(t))
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
	quick.Servers = []deploy.Server{{Container: "quick", Dyno: "web.1", Addr: at, Proven: true}}
	quick.HealthCheck = 0
	proxytest.Apply(t, quickServer, quick)
	full := fullBacklog(t)
	noMoreWatches(t)

	// The runtime can't watch a client of this test either.
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(client)
	if err := unix.Connect(client, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(quick.Key.Port)}); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "it is told of the client that could not be served", func() bool { return tells(&quickLog, "chat") })

	slow.Servers = []deploy.Server{{Container: "full", Dyno: "web.1", Addr: full.addr, Proven: true}}
	proxytest.Apply(t, slowServer, slow)
	wait.Until(t, "it is told of the check", func() bool { return tells(&slowLog, "mail") })
	if !proxytest.Observe(t, slowServer).Routes[0].Servers[0].Up {
		t.Error("the server is said to be down")
	}
}

func tells(log *wait.Buffer, app string) bool {
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "app="+app) && strings.Contains(line, "fs.epoll.max_user_watches") {
			return true
		}
	}
	return false
}

// listening is a socket that listens, and that the runtime does not watch.
func listening(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(os.NewSyscallError("socket", err))
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(os.NewSyscallError("bind", err))
	}
	if err := unix.Listen(fd, 8); err != nil {
		t.Fatal(os.NewSyscallError("listen", err))
	}
	return fd
}
