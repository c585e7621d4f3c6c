// Package load is what clients see, the only judge of zero downtime.
//
// [Start] runs two kinds of clients against one public address. Openers open a connection, read the greeting, have one line
// echoed, close, and begin again without a pause. Holders keep one connection each and have a line echoed through it every
// now and then. Both understand the greeting of internal/testapp, "VERSION CONTAINER PORT", so each answer has a name. With
// [Config.Remote] half of the clients are on another host.
//
// The caller tells what clients can't know: [Load.Mark] that a version's deploy is done, after which no connection may
// begin and get an older version's answer; [Load.Retired] that a container has been stopped, whose own end then breaks no
// promise; [Load.Dies] that one is killed. [Load.Stop] ends all clients and gives the [Report]; the caller owns the Load until then.
//
// The package knows nothing of Dokku, Docker or an engine: it must not be able to see what a client can't.
package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"dokku-expose/internal/netns"
)

// Config says who connects where.
type Config struct {
	// Addr is the public address. For an IPv4 loopback address the clients' own addresses are spread over 127.0.0.0/8, or
	// the ephemeral ports would run out.
	Addr netip.AddrPort
	// Remote is the host of every second client, nil for none. Its clients connect to the port of Addr at the address that the
	// host has for this machine, and close with a FIN, as most real clients do.
	Remote *netns.Host
	// Openers is the number of clients that open one connection after the other, with Pause between two: without one,
	// sixteen of them take all of a small machine.
	Openers int
	Pause   time.Duration
	// Holders is the number of clients that keep one connection.
	Holders int
	// Timeout bounds each of connecting, the wait for the greeting and the wait for an echo. 10 seconds when 0.
	Timeout time.Duration
	// TLS has the clients speak TLS, nil for none.
	TLS *tls.Config
	// HoldInterval is the time between two lines on a held connection. 100 ms when 0.
	HoldInterval time.Duration
}

// Load is a running set of clients. Its methods may be called from any goroutine.
type Load struct {
	cfg     Config
	sources atomic.Uint32

	ctx     context.Context // cut: connections are closed in the middle, and not judged
	cut     context.CancelFunc
	stop    chan struct{} // closed: no new connections
	stopped sync.Once
	clients sync.WaitGroup

	began time.Time

	mu         sync.Mutex
	current    string                // the version that Mark named last
	old        map[string]time.Time  // version -> when it stopped being current
	retired    map[string]retirement // container -> when it was stopped
	deaths     []*death
	phases     []*phase
	versions   map[string]*version
	containers map[string]int // answers
	held       map[string]int // connections held now, by version
	failures   []Failure
	waiters    []*waiter
}

type retirement struct {
	at time.Time
	// mayEnd is from when on the container's end may break its connections.
	mayEnd time.Time
}

// death is a container's sudden end, after which it may come back.
type death struct {
	container   string
	from, until time.Time // until is zero as long as it is under way
	// unknown is how many connections may still be taken for the container's that it did not greet.
	unknown int
}

type waiter struct {
	since time.Time
	left  int
	done  chan struct{}
}

// Start runs the clients, and returns when every holder holds a connection. Ending ctx cuts all connections, which then
// count as neither good nor bad.
func Start(ctx context.Context, cfg Config) (*Load, error) {
	if !cfg.Addr.IsValid() {
		return nil, errors.New("load: no address to connect to")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.HoldInterval == 0 {
		cfg.HoldInterval = 100 * time.Millisecond
	}
	l := &Load{
		cfg:        cfg,
		stop:       make(chan struct{}),
		began:      time.Now(),
		old:        make(map[string]time.Time),
		retired:    make(map[string]retirement),
		phases:     []*phase{{name: "start", answers: make(map[string]int)}},
		versions:   make(map[string]*version),
		containers: make(map[string]int),
		held:       make(map[string]int),
	}
	l.ctx, l.cut = context.WithCancel(ctx)

	first := make(chan error, cfg.Holders)
	for i := range cfg.Holders {
		l.clients.Go(func() { l.hold(l.client(i), first) })
	}
	var errs []error
	for range cfg.Holders {
		if err := <-first; err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		l.cut()
		l.Stop()
		return nil, fmt.Errorf("load: %d of %d held connections to %s could not be opened, the first: %w",
			len(errs), cfg.Holders, cfg.Addr, errs[0])
	}
	for i := range cfg.Openers {
		l.clients.Go(func() { l.open(l.client(i)) })
	}
	return l, nil
}

// Phase begins a part of the report with a name: connections that begin from now on are counted under it.
func (l *Load) Phase(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phases = append(l.phases, &phase{name: name, began: time.Since(l.began), answers: make(map[string]int)})
}

// Mark says that version is current from now on (its post-deploy returned): a connection that begins after this and is
// answered by a version that was seen, or current, before is stale.
func (l *Load) Mark(version string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	retire := func(v string) {
		if _, known := l.old[v]; v != version && v != "" && !known {
			l.old[v] = now
		}
	}
	retire(l.current)
	for v := range l.versions {
		retire(v)
	}
	delete(l.old, version)
	l.current = version
}

// Retired says that the container is being stopped now, to be called just before its SIGTERM: a connection that begins
// after this and is answered by it is stale. Its process keeps the connections that it has for grace, and may end them
// afterwards: that is an end by its own container. One that ends sooner was broken by somebody else. The id may be a
// container's full one or the first twelve digits of it.
func (l *Load) Retired(container string, grace time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if _, known := l.retired[short(container)]; !known {
		l.retired[short(container)] = retirement{at: now, mayEnd: now.Add(grace)}
	}
}

// Dies says that the container's process is being ended now, in the midst of its connections; it may come back. The function
// that it returns says that the process has ended. Connections that it answered and that began before that may end with it.
// Those which it had not greeted yet have no name: at most one of each client that was closed or reset is taken for its own.
func (l *Load) Dies(container string) (dead func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := &death{container: short(container), from: time.Now(), unknown: l.cfg.Openers + l.cfg.Holders}
	l.deaths = append(l.deaths, d)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		d.until = time.Now()
	}
}

// Await returns when n connections that began after this call have been answered.
func (l *Load) Await(ctx context.Context, n int) error {
	w := &waiter{since: time.Now(), left: n, done: make(chan struct{})}
	l.mu.Lock()
	l.waiters = append(l.waiters, w)
	l.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("load: waiting for %d answered connections to %s: %w", n, l.cfg.Addr, context.Cause(ctx))
	case <-l.ctx.Done():
		return fmt.Errorf("load: waiting for %d answered connections to %s: the load has ended", n, l.cfg.Addr)
	}
}

// Stop lets the connections under way come to their end, closes the held ones, and reports. It may be called again.
func (l *Load) Stop() Report {
	l.stopped.Do(func() { close(l.stop) })
	l.clients.Wait()
	l.cut()
	return l.Report()
}

// dialer connects one client.
type dialer func() (*net.TCPConn, error)

// client is how the i-th opener or holder connects.
func (l *Load) client(i int) dialer {
	if l.cfg.Remote != nil && i%2 == 1 {
		return l.dialRemote
	}
	return l.dialLocal
}

func (l *Load) dialRemote() (*net.TCPConn, error) {
	return l.cfg.Remote.Dial(l.ctx, l.cfg.Addr.Port(), l.cfg.Timeout)
}

func (l *Load) dialLocal() (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: l.cfg.Timeout, LocalAddr: l.source()}
	conn, err := dialer.DialContext(l.ctx, "tcp", l.cfg.Addr.String())
	if err != nil {
		return nil, err
	}
	// Closing resets: a port in TIME_WAIT is one that the next connections can't have, for a minute.
	tcp := conn.(*net.TCPConn)
	if err := tcp.SetLinger(0); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return tcp, nil
}

// source is the next client's own address, nil to leave it to the system.
func (l *Load) source() net.Addr {
	if ip := l.cfg.Addr.Addr(); !ip.Is4() || !ip.IsLoopback() {
		return nil
	}
	// 1 to 254 in each byte: no network and no broadcast address, whatever the mask.
	n := l.sources.Add(1)
	return &net.TCPAddr{IP: net.IPv4(127, byte(1+n/254/254%254), byte(1+n/254%254), byte(1+n%254))}
}

// short is how a greeting names a container: Docker sets the host name to the id's first twelve digits.
func short(container string) string {
	return container[:min(12, len(container))]
}
