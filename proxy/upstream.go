package proxy

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/proxy/tcp"
)

const (
	// connectTimeout bounds one attempt to connect: longer than the second after which the kernel repeats a lost SYN.
	connectTimeout = 3 * time.Second
	// retryInterval is the time between two attempts to connect while a client waits.
	retryInterval = 100 * time.Millisecond
	// penalty is how long a server that failed gets no connection while checks are off. With checks, these tell.
	penalty = time.Second
	// publishedStay is how long a connection through Docker's proxy for published ports, which accepts whatever is behind it,
	// must stay open to count as accepted by the container, see [upstream.stay].
	publishedStay = 100 * time.Millisecond
)

// The standing of a server.
const (
	// serving: it is current. former: it is not, and flows stay. barred: its address may be somebody else's by now.
	serving int32 = iota
	former
	barred
)

// upstream is one server of a route, and the connections on it. Its fields but the counters are guarded by the route's mutex.
type upstream struct {
	container, dyno string
	addr            netip.AddrPort
	// published tells that Docker's own proxy may be what answers there, see [deploy.Target].
	published bool

	counters      tcp.Counters
	total, failed atomic.Uint64

	sessions map[*session]struct{}
	// dialing are attempts to connect that are not over.
	dialing int
	dials   sync.WaitGroup
	// up tells that a table or an attempt to connect has proven it, and that none has failed since.
	up       bool
	failedAt time.Time
	// retiredAt is when the table ceased to name it, zero while it does.
	retiredAt time.Time
	// sessionsAtRetire are the connections that it had then, drained those that closed while it was retired before.
	sessionsAtRetire int
	drained          uint64
	// cutTimer cuts its connections some time after that, nil for never.
	cutTimer *time.Timer
	// standing is for flows of UDP, in whose loop it is read.
	standing atomic.Int32
	// ctx ends when it is retired.
	ctx    context.Context
	cancel context.CancelFunc
}

// cutAll cuts all connections on it. It calls then for each, see [tcp.Relay.Reset].
func (u *upstream) cutAll(then func(reset bool)) {
	for s := range u.sessions {
		s.relay.Reset(then)
	}
}

func newUpstream(s deploy.Server) *upstream {
	u := &upstream{container: s.Container, addr: s.Addr, sessions: make(map[*session]struct{})}
	u.revive(s)
	return u
}

// revive makes it serve, anew or for the first time.
func (u *upstream) revive(s deploy.Server) {
	u.dyno, u.published, u.up = s.Dyno, s.Published, s.Proven
	u.drained = u.drainedSoFar()
	u.retiredAt = time.Time{}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	if u.cutTimer != nil {
		u.cutTimer.Stop()
	}
}

// retire ends its service. Attempts to connect are given up; connections stay.
func (u *upstream) retire() {
	u.retiredAt, u.sessionsAtRetire = time.Now(), u.connections()
	u.cancel()
}

// is tells whether s is this server. A server without a container is the one that serves at its address: a caller that can't ask Docker
// leaves it as it is.
func (u *upstream) is(s deploy.Server) bool {
	return u.addr == s.Addr && (u.container == s.Container || s.Container == "" && u.retiredAt.IsZero())
}

// identity is the same for all ports of a container: its id, or where that is not known its address.
func (u *upstream) identity() string {
	if u.container == "" {
		return u.addr.Addr().String()
	}
	return u.container
}

// load is compared by the balance of least connections.
func (u *upstream) load() int { return len(u.sessions) + u.dialing }

// mayServe tells whether it gets new connections now.
func (u *upstream) mayServe(checked bool) bool {
	return u.up || !checked && time.Since(u.failedAt) > penalty
}

// attempt is one to connect that is about to be made. Its context ends when the server is retired.
type attempt struct {
	*upstream
	ctx context.Context
}

// within returns a context that ends with ctx, and with the attempt's own.
func (a attempt) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	unbind := context.AfterFunc(a.ctx, cancel)
	return ctx, func() { unbind(); cancel() }
}

// begin counts an attempt, which connect ends. The route's mutex is held.
func (u *upstream) begin() attempt {
	u.dialing++
	u.dials.Add(1)
	return attempt{u, u.ctx}
}

// isExhaustion tells that an attempt to connect failed because this host has run out of something, as ports or files. The server may be up.
func isExhaustion(err error) bool {
	_, exhaustion := deploy.HostLack(err)
	return exhaustion
}

// stay is how long a connection must stay open to prove a server that is not known to be up.
func (u *upstream) stay() time.Duration {
	if u.published {
		return publishedStay
	}
	return 0
}
