package tcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func probed(ctx context.Context, addr netip.AddrPort, timeout time.Duration) error {
	done := make(chan error, 1)
	Probe(ctx, addr, timeout, func(err error) { done <- err })
	return <-done
}

// A probe tells what a connection would, and the server never gets one: what it accepts first is the next real connection.
func TestProbeLeavesNoTrace(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Skipf("this test needs IPv6: %v", err)
		}
		defer l.Close()
		addr := l.Addr().(*net.TCPAddr).AddrPort()
		for range 1000 {
			if err := probed(t.Context(), addr, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		client, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		if got, want := accepted.RemoteAddr().String(), client.LocalAddr().String(); got != want {
			t.Errorf("%s: the first connection came from %s, want %s", address, got, want)
		}
	}
}

func TestProbeFails(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	if err := probed(t.Context(), free, time.Minute); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	if err := probed(t.Context(), fullListener(t), time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no answer in time: %v", err)
	}
}
