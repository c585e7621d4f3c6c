package proxy

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/proxytest"
)

// fullServer lets nobody in any more: connections to it neither succeed nor fail.
type fullServer struct {
	addr netip.AddrPort
	// fillers are the attempts that fill it.
	fillers int
}

func fullBacklog(t *testing.T) fullServer {
	t.Helper()
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), enginetest.FreePort(t))
	to := &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	socket := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	listener := socket()
	if err := unix.Bind(listener, to); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 0); err != nil {
		t.Fatal(err)
	}
	// One has a place there, the others fill what waits for one.
	for range 4 {
		if err := unix.Connect(socket(), to); err != nil && err != unix.EINPROGRESS {
			t.Fatal(err)
		}
	}
	return fullServer{addr, connecting(t, addr)}
}

// connecting counts the attempts to connect to it that are under way, without those that fill it.
func (s fullServer) connecting(t *testing.T) int {
	t.Helper()
	return connecting(t, s.addr) - s.fillers
}

// connecting counts this host's attempts to connect to an address that are under way, as the kernel lists them.
func connecting(t *testing.T, addr netip.AddrPort) (n int) {
	t.Helper()
	const synSent = "02"
	text, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	remote := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(addr.Addr().AsSlice()), addr.Port())
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[2] == remote && fields[3] == synSent {
			n++
		}
	}
	return n
}

// Whose port goes to another app while it waits for a server is served by that one, in its own loop: the race detector knows.
func TestPortChangesHandsWhileClientsWait(t *testing.T) {
	const clients = 32
	s, mail := newServer(t), proxytest.RouteTo("mail", enginetest.FreePort(t))
	full := fullBacklog(t)
	mail.Servers = []deploy.Server{{Container: "full", Dyno: "web.1", Addr: full.addr, Proven: true}}
	mail.HealthCheck = 0
	news := proxytest.RouteTo("news", mail.Key.Port, enginetest.NewServer(t, "news"))
	var err error
	if news.Options, err = deploy.ParseOptions("accept-proxy=127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	proxytest.Apply(t, s, mail)
	var waiting []*proxytest.Client
	for range clients {
		waiting = append(waiting, proxytest.Dial(t, mail.Key.Port))
	}
	wait.Until(t, "all of them are being connected", func() bool { return full.connecting(t) == clients })
	proxytest.Apply(t, s, news)
	for i, c := range waiting {
		if _, err := fmt.Fprintf(c.Conn, "PROXY TCP4 192.0.2.7 198.51.100.1 %d 25\r\n", 1000+i); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range waiting {
		if got := c.Greeting(); got != "news" {
			t.Errorf("%s answered", got)
		}
		c.Echo()
	}
}
