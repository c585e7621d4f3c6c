package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// dialTimeout bounds one connection attempt. A container's address is on this host: its kernel answers at once, or it is
	// not there.
	dialTimeout = 250 * time.Millisecond
	// soon bounds all attempts of acceptSoon. An address that is nobody's any more does not answer at all, and is to be known for
	// one before it can be somebody else's.
	soon = 150 * time.Millisecond
	// udpSilence is how long an answer to a datagram is waited for that says that nobody gets it.
	udpSilence = 100 * time.Millisecond
	// publishedStay is how long a connection through Docker's own proxy must stay open to count as accepted by the container.
	publishedStay = 200 * time.Millisecond
)

// Target is where the private port of a container is asked whether it accepts.
type Target struct {
	Proto Proto
	Addr  netip.AddrPort
	// Published tells that it is a port of this host that Docker publishes. Docker's own proxy may answer there, whatever is behind it.
	Published bool
}

// Address is where the target is.
func (t Target) Address() Address { return Address{t.Proto, t.Addr} }

// AcceptAll asks all targets at the same time whether they accept connections, and returns why those that don't don't. A container
// does not notice: see [Listening]. Only behind Docker's proxy nothing but a connection tells, which then reaches the app: it must
// stay open, since the proxy closes it at once when nobody listens in the container.
func AcceptAll(ctx context.Context, targets []Target) map[Address]error {
	return askAll(targets, dialsAtOnce(), func(t Target) error {
		if t.Published && t.Proto == TCP {
			return stays(ctx, t.Addr)
		}
		return ask(ctx, t, dialTimeout)
	})
}

// probed is the plan of a snapshot once the addresses that it depends on have been asked.
func probed(ctx context.Context, s Snapshot) (Planned, error) {
	ev := make(Evidence)
	for {
		plan := Plan(s, ev)
		if len(plan.Ask) == 0 {
			return plan, nil
		}
		failed := AcceptAll(ctx, plan.Ask)
		if err := ctx.Err(); err != nil {
			// An address that could not be asked in time must not look like one that said no.
			return Planned{}, err
		}
		for _, t := range plan.Ask {
			ev[t.Address()] = failed[t.Address()]
		}
	}
}

// gone are the served addresses of some apps that accept no connections any more. One that the engine has found down is not asked: what accepts
// there now may be another app's.
//
// The servers of a route that wants no checks are not asked either. Only the network of a known container's own address is, at a port
// that no app has (see there): without an answer, and where Docker publishes the port or the container has the host's network, they
// are taken for gone.
func gone(ctx context.Context, s Snapshot, of func(app string) bool) []Address {
	var addrs, gone, unchecked []Address
	endpoints := Endpoints(s.Sources)
	for _, service := range s.Serving {
		if !of(service.App) {
			continue
		}
		if service.Options.Check == NoCheck {
			unchecked = append(unchecked, service.addresses(service.All())...)
			continue
		}
		addrs = append(addrs, service.addresses(slices.Concat(service.Addresses(true), service.Former()))...)
		gone = append(gone, service.addresses(service.Addresses(false))...)
	}
	own := func(addr Address) bool {
		return slices.ContainsFunc(endpoints, func(c Endpoint) bool { return c.Running && slices.Contains(c.Direct, addr.Addr()) })
	}
	slices.SortFunc(addrs, Address.compare)
	addrs = slices.Compact(addrs)
	failed := acceptSoon(ctx, addrs)
	// A refusal is proof. No answer may be that of one that is very busy: a container that is there nevertheless goes on serving, and
	// the others get a second chance.
	var silent []Address
	for addr, err := range failed {
		if errors.Is(err, syscall.ECONNREFUSED) {
			gone = append(gone, addr)
		} else {
			silent = append(silent, addr)
		}
	}
	alive := there(ctx, slices.DeleteFunc(slices.Concat(silent, unchecked), func(addr Address) bool { return !own(addr) }))
	silent = slices.DeleteFunc(silent, func(addr Address) bool { return alive[addr] })
	gone = slices.AppendSeq(gone, maps.Keys(acceptSoon(ctx, silent)))
	// Another route may lead to the same address, and want checks.
	return append(gone, slices.DeleteFunc(unchecked, func(addr Address) bool { return alive[addr] || slices.Contains(addrs, addr) })...)
}

// Listening asks all addresses at the same time whether somebody listens there, and returns why where nobody does. It makes no
// connection that an app could accept, log or count. Of a port that Docker publishes it tells only that Docker's proxy runs, which
// it does while the container runs.
func Listening(ctx context.Context, addrs []Address) map[Address]error {
	return listening(ctx, addrs, dialTimeout)
}

// acceptSoon is Listening for servers that have accepted before. However many of them are silent, each has its share of the time.
func acceptSoon(ctx context.Context, addrs []Address) map[Address]error {
	rounds := (len(addrs) + dialsAtOnce() - 1) / dialsAtOnce()
	return listening(ctx, addrs, soon/time.Duration(max(rounds, 1)))
}

func listening(ctx context.Context, addrs []Address, timeout time.Duration) map[Address]error {
	targets := make([]Target, len(addrs))
	for i, addr := range addrs {
		targets[i] = Target{Proto: addr.Proto, Addr: addr.AddrPort}
	}
	return askAll(targets, dialsAtOnce(), func(t Target) error { return ask(ctx, t, timeout) })
}

// ask tells whether somebody listens at a target.
func ask(ctx context.Context, t Target, timeout time.Duration) error {
	if t.Proto == UDP {
		return probeUDP(ctx, t.Addr, timeout)
	}
	return probe(ctx, t.Addr, timeout)
}

// askAll asks all targets, as many of them at once as may be, and returns the errors.
func askAll(targets []Target, atOnce int, ask func(Target) error) map[Address]error {
	var (
		mu      sync.Mutex
		failed  = make(map[Address]error)
		wg      sync.WaitGroup
		tickets = make(chan struct{}, atOnce)
	)
	for _, t := range targets {
		tickets <- struct{}{}
		wg.Go(func() {
			defer func() { <-tickets }()
			if err := ask(t); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[t.Address()] = err
			}
		})
	}
	wg.Wait()
	return failed
}

// dialsAtOnce bounds the attempts in flight: a hundredth of the open files that this process may have, since a daemon that serves
// ports itself needs them for clients. 128 are always far below the usual limit of 1,024.
func dialsAtOnce() int {
	const fewest, most = 128, 1024
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fewest
	}
	return int(min(max(limit.Cur/100, fewest), most))
}

// probe tells whether somebody listens at addr, and leaves no trace there. The kernel is told to delay the ACK that completes the
// handshake (by up to 200 ms), and the reset that ends it overtakes it: accept(2) never returns such a connection. HAProxy's connect
// check does the same.
func probe(ctx context.Context, addr netip.AddrPort, timeout time.Duration) error {
	dialer := net.Dialer{Timeout: timeout, KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
		}), err)
	}}
	conn, err := dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		err = tcp.SetLinger(0)
	}
	return errors.Join(err, conn.Close())
}

// probeUDP tells whether addr is not known to be closed: nothing says so in answer to an empty datagram, in the time in which the kernel of
// a host nearby would. Most apps ignore such a datagram. The silence of a network that is not there yet, or not any more, is no answer: it
// has to refuse a connection before.
func probeUDP(ctx context.Context, addr netip.AddrPort, timeout time.Duration) error {
	if err := probe(ctx, netip.AddrPortFrom(addr.Addr(), unusedPort), timeout); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(udpSilence)); err != nil {
		return err
	}
	if _, err := conn.Write(nil); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// stays tells whether a connection to addr stays open.
func stays(ctx context.Context, addr netip.AddrPort) error {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(publishedStay)); err != nil {
		return err
	}
	switch n, err := conn.Read(make([]byte, 1)); {
	case n > 0, errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	default:
		return fmt.Errorf("%s accepts connections and closes them at once: %w", addr, err)
	}
}

// HostLack tells that an attempt to connect failed since this host lacks something for it, which says nothing of the server, and how to
// give the host more of it; ok is false for any other error.
func HostLack(err error) (remedy string, ok bool) {
	for _, lack := range []struct {
		err    error
		remedy string
	}{
		{unix.EADDRNOTAVAIL, "all local ports to that address are in use: have more containers (dokku ps:scale), or more ports (sysctl net.ipv4.ip_local_port_range)"},
		{unix.EMFILE, "let the daemon's service have more open files (LimitNOFILE)"},
		{unix.ENOSPC, "let a user watch more connections with epoll (sysctl fs.epoll.max_user_watches)"},
		{unix.ENFILE, "let the host have more open files (sysctl fs.file-max)"},
		{unix.ENOBUFS, "let the host have more memory for connections (sysctl net.ipv4.tcp_mem)"},
		{unix.ENOMEM, "let the host have more memory for connections (sysctl net.ipv4.tcp_mem)"},
	} {
		if errors.Is(err, lack.err) {
			return lack.remedy, true
		}
	}
	return "", false
}

// unusedPort is tcpmux, which nothing listens on.
const unusedPort = 1

// there are those of the addresses whose network answers at all, if only that nothing listens on a port. A server that is too busy
// to accept another connection, or that nobody may ask, is told from one that is gone by this. It goes for a container's own address
// alone: this host's own ones always answer.
func there(ctx context.Context, addrs []Address) map[Address]bool {
	closed := make(map[Address]Address)
	var ask []Address
	for _, addr := range addrs {
		closed[addr] = Address{TCP, netip.AddrPortFrom(addr.Addr(), unusedPort)}
		if !slices.Contains(ask, closed[addr]) {
			ask = append(ask, closed[addr])
		}
	}
	failed := acceptSoon(ctx, ask)
	answered := make(map[Address]bool)
	for addr, unused := range closed {
		if err := failed[unused]; err == nil || errors.Is(err, syscall.ECONNREFUSED) {
			answered[addr] = true
		}
	}
	return answered
}
