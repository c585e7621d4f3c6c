package proxy

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/wait"
)

// fullBacklog is a server that lets nobody in any more: connections to it neither succeed nor fail.
func fullBacklog(t *testing.T) netip.AddrPort {
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
	return addr
}

// dialing are the attempts to connect to servers of an app that are not over.
func dialing(s *Server, app string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.routes {
		if r.app == app {
			r.mu.Lock()
			for _, u := range r.current {
				n += u.dialing
			}
			r.mu.Unlock()
		}
	}
	return n
}

// Whose port goes to another app while it waits for a server is served by that one, in its own loop: the race detector knows.
func TestPortChangesHandsWhileClientsWait(t *testing.T) {
	const clients = 32
	s, mail := newServer(t), routeTo("mail", enginetest.FreePort(t))
	mail.Servers = []deploy.Server{{Container: "full", Dyno: "web.1", Addr: fullBacklog(t), Proven: true}}
	mail.HealthCheck = 0
	news := routeTo("news", mail.Frontend.Port, enginetest.NewServer(t, "news"))
	var err error
	if news.Options, err = deploy.ParseOptions("accept-proxy=127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	apply(t, s, mail)
	var waiting []*client
	for range clients {
		waiting = append(waiting, dialPort(t, mail.Frontend.Port))
	}
	wait.Until(t, "all of them are being connected", func() bool { return dialing(s, "mail") == clients })
	apply(t, s, news)
	for i, c := range waiting {
		if _, err := fmt.Fprintf(c.conn, "PROXY TCP4 192.0.2.7 198.51.100.1 %d 25\r\n", 1000+i); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range waiting {
		if got := c.greeting(); got != "news" {
			t.Errorf("%s answered", got)
		}
		c.echo()
	}
}
