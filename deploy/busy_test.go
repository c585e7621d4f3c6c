package deploy

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A server whose queue of new connections is full does not answer, as one that is gone; its container does.
func TestBusyServerIsTold(t *testing.T) {
	addr := fullServer(t)
	failed := acceptSoon(t.Context(), []netip.AddrPort{addr})
	if err := failed[addr]; err == nil || errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("connecting to %s gives %v, want no answer", addr, err)
	}
	gone := netip.MustParseAddrPort("224.0.0.1:25") // a group, so no host ever answers
	if got := there(t.Context(), []netip.AddrPort{addr, gone}); !got[addr] || got[gone] {
		t.Errorf("there are %v, want %s alone", got, addr)
	}
}

// fullServer accepts nothing, and has no room for another connection.
func fullServer(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	ip := [4]byte{127, 0, 0, 2}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: ip}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(name.(*unix.SockaddrInet4).Port))
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return addr
}
