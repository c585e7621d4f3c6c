// Package netns gives load tests a client host of their own: a network namespace behind a veth with Ethernet's MTU of 1500.
//
// Loopback hides what a network shows. The kernel reuses ports in TIME_WAIT there, packets are 64 KiB long, and every source
// address is the server's own. Clients of a [Host] have none of that.
//
// [New] needs root, and the program `ip`. The caller closes the Host. Nothing is left behind when the process is killed before that: no
// name keeps the namespace, so the kernel removes it and both ends of the veth with the process.
package netns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Hosts share 198.18.0.0/15, the addresses for benchmarks (RFC 2544), in networks of 16 addresses.
var (
	benchmarks = netip.MustParsePrefix("198.18.0.0/15")
	networks   = 1 << (networkBits - benchmarks.Bits())
)

const (
	networkBits = 28
	// sources is how many addresses the clients have: all of a network but its own, the server's and the broadcast address.
	sources = 1<<(32-networkBits) - 3
	// attempts bounds the search for a network that no other Host has.
	attempts = 20
)

// Host is a client host. Its methods may be called from any goroutine.
type Host struct {
	namespace *os.File
	veth      string
	server    netip.Addr
	next      atomic.Uint32
}

// New makes a client host that this machine serves at [Host.Server].
func New() (*Host, error) {
	var taken error
	for range attempts {
		h, err := newHost(rand.IntN(networks))
		if !errors.Is(err, errTaken) {
			return h, err
		}
		taken = err
	}
	return nil, taken
}

// errTaken says that another Host has the network. The name of the veth is what claims it, also between processes.
var errTaken = errors.New("netns: the network is another host's")

func newHost(network int) (_ *Host, err error) {
	first := benchmarks.Addr().As4()
	offset := network << (32 - networkBits)
	first[1] += byte(offset >> 16)
	first[2] = byte(offset >> 8)
	first[3] = byte(offset)
	h := &Host{veth: fmt.Sprintf("expose%d", network), server: netip.AddrFrom4(first).Next()}
	if err := ip("link", "add", h.veth, "mtu", "1500", "type", "veth", "peer", "name", h.veth+"c", "mtu", "1500"); err != nil {
		if strings.Contains(err.Error(), "File exists") {
			err = fmt.Errorf("%w: %w", errTaken, err)
		}
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if err := h.unshare(); err != nil {
		return nil, fmt.Errorf("netns: a network namespace: %w", err)
	}
	if err := ip("link", "set", h.veth+"c", "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.namespace.Fd())); err != nil {
		return nil, err
	}
	if err := errors.Join(
		ip("addr", "add", fmt.Sprintf("%s/%d", h.server, networkBits), "dev", h.veth),
		ip("link", "set", h.veth, "up"),
	); err != nil {
		return nil, err
	}
	return h, h.within(func() error {
		errs := []error{ip("link", "set", "lo", "up"), ip("link", "set", h.veth+"c", "up")}
		for n := range uint32(sources) {
			errs = append(errs, ip("addr", "add", fmt.Sprintf("%s/%d", h.source(n), networkBits), "dev", h.veth+"c"))
		}
		return errors.Join(errs...)
	})
}

// Server is this machine's address for the clients.
func (h *Host) Server() netip.Addr { return h.server }

// Dial connects to a port of this machine, from the next of the client host's addresses.
func (h *Host) Dial(ctx context.Context, port uint16, timeout time.Duration) (*net.TCPConn, error) {
	from := h.source(h.next.Add(1) % sources)
	dialer := net.Dialer{Timeout: timeout, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	var conn net.Conn
	err := h.within(func() (err error) {
		conn, err = dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(h.server, port).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// Close removes the client host. Its connections break.
func (h *Host) Close() error {
	// First the veth: the kernel removes it with the namespace, at a moment of its own.
	err := ip("link", "del", h.veth)
	if h.namespace != nil {
		err = errors.Join(err, h.namespace.Close())
	}
	return err
}

// source is the n-th address of the clients.
func (h *Host) source(n uint32) netip.Addr {
	b := h.server.As4()
	b[3] += byte(1 + n)
	return netip.AddrFrom4(b)
}

const threadNamespace = "/proc/thread-self/ns/net"

// unshare makes the namespace. The thread that was in it ends with its goroutine.
func (h *Host) unshare() error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			h.namespace, err = os.Open(threadNamespace)
		}
		done <- err
	}()
	return <-done
}

// within calls do on a thread in the namespace. Sockets that do makes, and processes that it starts, belong to the namespace.
func (h *Host) within(do func() error) error {
	runtime.LockOSThread()
	home, err := os.Open(threadNamespace)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(h.namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("netns: enter the client host: %w", err)
	}
	done := do()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		// The thread stays locked, and ends with its goroutine: nobody else may get it.
		return errors.Join(done, fmt.Errorf("netns: leave the client host: %w", err))
	}
	runtime.UnlockOSThread()
	return done
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
