package deploy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// dialTimeout bounds one connection attempt. A container's address is on this host: its kernel answers at once, or it is
	// not there.
	dialTimeout = 250 * time.Millisecond
	// soon bounds all attempts of acceptSoon. An address that is nobody's any more does not answer at all, and is to be known for
	// one before it can be somebody else's.
	soon = 150 * time.Millisecond
	// dialsAtOnce bounds the attempts in flight, far below the usual limit of 1,024 open files.
	dialsAtOnce = 128
)

// Accepts tells whether something at addr accepts a connection and keeps it open for stay; nil means yes. Docker's own
// proxy for published ports accepts whatever is behind it and closes at once when nothing is, hence stay.
func Accepts(ctx context.Context, addr netip.AddrPort, stay time.Duration) error {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if stay <= 0 {
		return nil
	}
	if err := conn.SetReadDeadline(time.Now().Add(stay)); err != nil {
		return err
	}
	switch n, err := conn.Read(make([]byte, 1)); {
	case n > 0, errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	default:
		return fmt.Errorf("%s accepts connections and closes them at once: %w", addr, err)
	}
}

// publishedStay is how long a connection through Docker's proxy must stay open to count as accepted by the container.
const publishedStay = 100 * time.Millisecond

// AcceptAll asks all addresses at the same time, and returns why those that don't accept don't (see Accepts).
func AcceptAll(ctx context.Context, addrs []netip.AddrPort, stay time.Duration) map[netip.AddrPort]error {
	var (
		mu      sync.Mutex
		failed  = make(map[netip.AddrPort]error)
		wg      sync.WaitGroup
		tickets = make(chan struct{}, dialsAtOnce)
	)
	for _, addr := range addrs {
		tickets <- struct{}{}
		wg.Go(func() {
			defer func() { <-tickets }()
			stay := stay
			if addr.Addr().IsLoopback() {
				stay = max(stay, publishedStay)
			}
			if err := Accepts(ctx, addr, stay); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[addr] = err
			}
		})
	}
	wg.Wait()
	return failed
}

// acceptSoon is AcceptAll for servers that have accepted before.
func acceptSoon(ctx context.Context, addrs []netip.AddrPort) map[netip.AddrPort]error {
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	return AcceptAll(ctx, addrs, 0)
}

// unusedPort is tcpmux, which nothing listens on.
const unusedPort = 1

// there are those of the addresses whose network answers at all, if only that nothing listens on a port. A server that is too busy
// to accept another connection is told from one that is gone by this. It goes for a container's own address alone: this host's
// own ones always answer.
func there(ctx context.Context, addrs []netip.AddrPort) map[netip.AddrPort]bool {
	closed := make(map[netip.AddrPort]netip.AddrPort)
	var ask []netip.AddrPort
	for _, addr := range addrs {
		closed[addr] = netip.AddrPortFrom(addr.Addr(), unusedPort)
		if !slices.Contains(ask, closed[addr]) {
			ask = append(ask, closed[addr])
		}
	}
	failed := acceptSoon(ctx, ask)
	answered := make(map[netip.AddrPort]bool)
	for addr, unused := range closed {
		if err := failed[unused]; err == nil || errors.Is(err, syscall.ECONNREFUSED) {
			answered[addr] = true
		}
	}
	return answered
}
