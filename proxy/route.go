package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/proxy/tcp"
	"dokku-expose/proxy/tls"
)

// route leads from one public address to the servers of one app. It outlives its place in the table, until its last
// connection has ended.
type route struct {
	app    string
	listen deploy.Key
	// checks bound the connect checks that are made at the same time.
	checks     slots
	log        *slog.Logger
	exhaustion *exhaustionLog
	// failed is called when a server has gone down, with the mutex held.
	failed func()
	// retrySlot is held by the one waiting client that tries servers which are not up.
	retrySlot chan struct{}

	// gate bounds the connections where the listener can't, since other routes share it.
	gate gate
	// admission limits the clients, nil for no limit.
	admission atomic.Pointer[admission]
	// tls ends TLS of the clients, nil where they speak none. certificate is the one that it shows; the server's mutex guards it.
	tls         atomic.Pointer[tls.Server]
	certificate deploy.Certificate
	// postgres tells that clients ask for TLS as those of Postgres do, certifiesClients that they need a certificate.
	postgres, certifiesClients atomic.Bool
	held                       atomic.Int64
	unserved                   atomic.Uint64
	// handshakesFailed are clients that did not come to speak TLS.
	handshakesFailed atomic.Uint64
	// secured counts those that did, by the version of TLS.
	secured sync.Map
	// datagrams are those of UDP.
	datagrams datagramCounts

	mu     sync.Mutex
	spec   deploy.Route
	active bool
	// superseded tells that a successor checks the servers, and its tables prove them.
	superseded bool
	// refusesTLS tells that the app did so last, as the log says.
	refusesTLS bool
	// current are the servers in the order of the table, retired the former ones that still have connections.
	current, retired []*upstream
	// past are the counters of servers that the route has forgotten.
	past sums
	// changed is closed, and replaced, when a waiting client should look again.
	changed    chan struct{}
	stopChecks context.CancelFunc
	lastSwitch time.Time
	next       int
}

func newRoute(app string, listen deploy.Key, checks slots, log *slog.Logger, exhaustion *exhaustionLog, failed func()) *route {
	return &route{
		app: app, listen: listen, checks: checks, log: log, exhaustion: exhaustion, failed: failed,
		retrySlot: make(chan struct{}, 1), changed: make(chan struct{}),
	}
}

// update applies spec, and returns the servers that it retired. Attempts to connect to those may be under way until dials of each is
// done. switched tells that the addresses of the current servers have changed.
func (r *route) update(spec deploy.Route) (gone []*upstream, switched bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active && same(r.spec, spec) && !r.revives(spec) {
		return nil, false
	}
	before := r.addrs()
	old := slices.Concat(r.current, r.retired)
	r.current, r.retired = nil, nil
	for _, s := range spec.Servers {
		r.current = append(r.current, r.upstream(&old, s))
	}
	gone = r.retire(old)
	r.scheduleCuts(spec.CutOld)

	// Servers of UDP are not asked: clients' datagrams show what is refused, and silence shows nothing.
	if !r.superseded && r.listen.Proto == deploy.TCP && (!r.active || r.spec.HealthCheck != spec.HealthCheck) {
		r.restartChecks(spec.HealthCheck)
	}
	if !r.active || r.spec.Options != spec.Options {
		r.admission.Store(newAdmission(spec.Options, r.admission.Load()))
	}
	r.gate.bound(spec.Options.MaxConnections)
	r.spec, r.active = spec, true
	r.bar()
	r.wake()
	switched = !slices.Equal(before, r.addrs())
	if switched {
		r.lastSwitch = time.Now()
	}
	return gone, switched
}

// same tells that two specs differ at most in how far their servers are proven. A field that is new in a route is compared as well.
func same(a, b deploy.Route) bool {
	a.Servers, b.Servers = unproven(a.Servers), unproven(b.Servers)
	return reflect.DeepEqual(a, b)
}

func unproven(servers []deploy.Server) []deploy.Server {
	list := make([]deploy.Server, len(servers))
	for i, s := range servers {
		list[i] = deploy.Server{Container: s.Container, Dyno: s.Dyno, Addr: s.Addr}
	}
	return list
}

// revives tells whether spec proves a server that is down. The mutex is held.
func (r *route) revives(spec deploy.Route) bool {
	return slices.ContainsFunc(spec.Servers, func(s deploy.Server) bool {
		return s.Proven && slices.ContainsFunc(r.current, func(u *upstream) bool { return u.is(s) && !u.up })
	})
}

// upstream takes the server out of old, or makes a new one.
func (r *route) upstream(old *[]*upstream, s deploy.Server) *upstream {
	i := slices.IndexFunc(*old, func(u *upstream) bool { return u.is(s) })
	if i < 0 {
		return newUpstream(s)
	}
	u := (*old)[i]
	*old = slices.Delete(*old, i, i+1)
	switch {
	case !u.retiredAt.IsZero():
		u.revive(s)
	case s.Proven:
		u.up = true
	}
	if s.Container != "" {
		u.dyno, u.published = s.Dyno, s.Published
	}
	return u
}

// retire retires servers, and keeps those that have connections. It returns those that were not retired yet.
func (r *route) retire(old []*upstream) (gone []*upstream) {
	for _, u := range old {
		if u.retiredAt.IsZero() {
			u.retire()
			gone = append(gone, u)
		}
		if u.load() > 0 {
			r.retired = append(r.retired, u)
		} else {
			r.forget(u)
		}
	}
	return gone
}

// scheduleCuts has the connections of retired servers cut when a server has been retired for that time; 0 keeps them.
func (r *route) scheduleCuts(after time.Duration) {
	for _, u := range r.retired {
		if u.cutTimer != nil {
			u.cutTimer.Stop()
			u.cutTimer = nil
		}
		if after > 0 {
			u.cutTimer = time.AfterFunc(time.Until(u.retiredAt.Add(after)), func() { r.cut(u, after) })
		}
	}
}

// cut cuts the connections on a retired server, and logs how many there were, without those that closed by themselves.
func (r *route) cut(u *upstream, after time.Duration) {
	var (
		pending sync.WaitGroup
		n       atomic.Int64
	)
	r.mu.Lock()
	if !u.retiredAt.IsZero() && time.Since(u.retiredAt) >= after {
		pending.Add(len(u.sessions))
		u.cutAll(func(reset bool) {
			if reset {
				n.Add(1)
			}
			pending.Done()
		})
	}
	r.mu.Unlock()
	pending.Wait()
	if n.Load() > 0 {
		r.log.Warn("cut", "app", r.app, "public", r.listen.String(), "connections", n.Load())
	}
}

// deactivate takes the route out of service, and returns the servers that it retired. Held clients are closed. Connections stay, because
// their container may live on, but a cut that is scheduled already stays scheduled.
func (r *route) deactivate() (gone []*upstream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.active {
		return nil
	}
	old := slices.Concat(r.current, r.retired)
	r.current, r.retired, r.active = nil, nil, false
	gone = r.retire(old)
	r.restartChecks(0)
	r.gate.bound(0)
	r.wake()
	return gone
}

// wake has waiting clients look again.
func (r *route) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// addrs are those of the current servers, in order.
func (r *route) addrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, u := range r.current {
		addrs = append(addrs, u.addr)
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	return addrs
}

// unused tells that nothing is left of a route that is out of the table.
func (r *route) unused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.active && len(r.retired) == 0
}

// connectAny tries the servers that are up in the order of the balance, and does not block. then(true, _) means that the client is linked.
// then(false, changed) means that no server is up until changed is closed; a nil channel means that the route is out of the table, or the
// client gone.
func (r *route) connectAny(s *session, then func(linked bool, changed <-chan struct{})) {
	r.connectExcept(nil, s, then)
}

// connectExcept leaves out servers that this host can't connect to now, because it has run out of something, and those that did not answer.
// They stay up.
func (r *route) connectExcept(out []*upstream, s *session, then func(linked bool, changed <-chan struct{})) {
	a, changed := r.pick(s, out)
	if a.upstream == nil {
		then(false, changed)
		return
	}
	r.connect(a.ctx, a, s, 0, func(err error) {
		switch {
		case err == nil:
			then(true, changed)
		case errors.Is(err, errRefusesTLS):
			// So does another one of the app.
			then(false, nil)
		case isExhaustion(err), errors.Is(err, errNoAnswer):
			// There may be a port for another address, and an answer from another server.
			r.connectExcept(append(out, a.upstream), s, then)
		default:
			r.connectExcept(out, s, then)
		}
	})
}

// pick chooses a server. The attempt to connect to it counts from now on.
func (r *route) pick(s *session, but []*upstream) (attempt, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// The client may have been held under options that did not need its address.
	if !r.active || asksForAddress(r.spec.Options) && s.locate() != nil {
		return attempt{}, nil
	}
	u := r.choose(s, but)
	if u == nil {
		return attempt{}, r.changed
	}
	return u.begin(), r.changed
}

// connect makes an attempt to link a client to a server, and calls then. ctx ends with the attempt's own, or before. A connection that
// does not stay open for that long is none.
func (r *route) connect(ctx context.Context, a attempt, s *session, stay time.Duration, then func(error)) {
	tcp.Dial(ctx, a.addr, connectTimeout, stay, func(server *tcp.Conn, err error) {
		if err != nil || !r.asksApp(s) {
			then(r.connected(ctx, a, s, server, false, err))
			return
		}
		r.askApp(ctx, s, server, func(err error) { then(r.connected(ctx, a, s, server, true, err)) })
	})
}

// connected ends an attempt to connect. told tells that the server has its PROXY header.
func (r *route) connected(ctx context.Context, a attempt, s *session, server *tcp.Conn, told bool, err error) error {
	u := a.upstream
	r.mu.Lock()
	defer u.dials.Done()
	defer r.mu.Unlock()
	u.dialing--
	if err == nil && r.isLate(u) {
		server.Reset()
		err = context.Canceled
	}
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			u.failed.Add(1)
			switch {
			case isExhaustion(err):
				r.exhaustion.report(r.app, r.listen, err)
			case errors.Is(err, errRefusesTLS):
				r.handshakesFailed.Add(1)
				if !r.refusesTLS {
					r.refusesTLS = true
					r.log.Error("the app refuses TLS for Postgres; turn it on there (ssl=on), or have it end here (tls=terminate)", "app", r.app, "port", r.listen.String())
				}
			case errors.Is(err, errNoAnswer):
			default:
				r.mark(u, false)
			}
		}
		r.tidy(u)
		return err
	}
	r.mark(u, true)
	terms := tcp.RelayOptions{IdleTimeout: r.spec.Options.IdleTimeout, HalfClosedTimeout: r.spec.HalfClosedTimeout()}
	if told {
		r.refusesTLS = false
	} else if terms.Opening, err = r.header(s); err != nil {
		server.Reset()
		r.tidy(u)
		return err
	}
	closed := func(err error) {
		r.short(err)
		r.closed(s)
	}
	if s.secure == nil {
		s.relay = tcp.NewRelay(s.client, server, terms, &u.counters, closed)
	} else {
		plain, err := server.Detach()
		if err != nil {
			r.short(err)
			r.tidy(u)
			return err
		}
		s.relay = tls.NewRelay(s.secure, plain, terms, &u.counters, closed)
	}
	s.client, s.ends = nil, nil
	r.seat(u, s)
	return nil
}

// isLate tells that a server has been retired or has gone down while an attempt to reach it was made. The mutex is held.
func (r *route) isLate(u *upstream) bool { return !u.retiredAt.IsZero() || !u.up && r.hasChecks() }

// short logs what a connection has failed for if this host is short of it. Other ends are between client and server, and not worth a line.
func (r *route) short(err error) {
	if isExhaustion(err) {
		r.exhaustion.report(r.app, r.listen, err)
	}
}

// closed forgets a connection that has closed.
func (r *route) closed(s *session) {
	r.mu.Lock()
	delete(s.upstream.sessions, s)
	r.tidy(s.upstream)
	r.mu.Unlock()
	s.release()
}

// tidy forgets a retired server without connections. The mutex is held.
func (r *route) tidy(u *upstream) {
	if i := slices.Index(r.retired, u); i >= 0 && u.load() == 0 {
		r.retired = slices.Delete(r.retired, i, i+1)
		r.forget(u)
	}
}

// mark notes the result of an attempt to connect. With checks, only a table that proves it brings a server up again: another app's
// container may accept at its address. The mutex is held.
func (r *route) mark(u *upstream, ok bool) {
	switch {
	case !ok:
		if u.up && r.hasChecks() {
			r.failed()
		}
		u.up, u.failedAt = false, time.Now()
	case !u.up && u.retiredAt.IsZero() && !r.hasChecks():
		u.up = true
		r.wake()
	}
}

// hasChecks tells that checks decide which servers are up. The mutex is held.
func (r *route) hasChecks() bool { return r.spec.HealthCheck > 0 }

// supersede leaves the checks to the successor.
func (r *route) supersede() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.superseded = true
	r.restartChecks(0)
}
