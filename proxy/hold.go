package proxy

import (
	"context"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/proxy/tcp"
)

// hold keeps a client waiting until a server is up, at most as long as the route holds. It blocks until the client is linked or closed.
func (r *route) hold(s *session, changed <-chan struct{}) {
	r.held.Add(1)
	linked := r.await(s, changed)
	r.held.Add(-1)
	if !linked {
		r.unserved.Add(1)
		s.giveUp()
	}
}

// await returns true when the client is linked. One of the waiting clients tries the servers that are not up, where there are no checks.
func (r *route) await(s *session, changed <-chan struct{}) bool {
	r.mu.Lock()
	wait := r.spec.Hold
	r.mu.Unlock()
	if wait <= 0 {
		linked := r.tryDown(context.Background(), s, changed)
		if !linked {
			linked, _ = r.tryUp(s)
		}
		return linked
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		case r.retrySlot <- struct{}{}:
			linked := r.tryDown(ctx, s, changed)
			if !linked {
				// Servers that are up are tried too, because a client may wait for something that this host has run out of: one that gets
				// it lets the next one try at once.
				linked, changed = r.tryUp(s)
			}
			if !linked && changed != nil {
				select {
				case <-ctx.Done():
				case <-changed:
				case <-time.After(retryInterval):
				}
			}
			<-r.retrySlot
			if linked || changed == nil {
				return linked
			}
			continue
		}
		var linked bool
		if linked, changed = r.tryUp(s); linked || changed == nil {
			return linked
		}
	}
}

// tryUp is connectAny, and waits for its result.
func (r *route) tryUp(s *session) (linked bool, changed <-chan struct{}) {
	known := make(chan struct{})
	r.connectAny(s, func(l bool, c <-chan struct{}) {
		linked, changed = l, c
		close(known)
	})
	<-known
	return linked, changed
}

// tryDown probes all servers that are not up at the same time, until each has answered or something changes. A server that accepts is up
// from then on, for all clients. Behind Docker's proxy only a connection can tell: there the client gets its own, and linked is true.
// Where no server may be probed, all count as not tried yet instead. With checks none is probed: one that is down waits for a table that
// proves it.
func (r *route) tryDown(ctx context.Context, s *session, changed <-chan struct{}) (linked bool) {
	if r.forgive() {
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked := r.questions(func(u *upstream) bool { return !u.up && !r.hasChecks() })
	proxied := make(chan *question, len(asked))
	for i := range asked {
		q := &asked[i]
		ctx, cancel := q.within(ctx)
		tcp.Probe(ctx, q.addr, connectTimeout, func(err error) {
			var link *question
			switch {
			case ctx.Err() != nil:
			case err == nil && q.stay > 0:
				link = q
			default:
				r.checked(*q, err)
			}
			cancel()
			proxied <- link
		})
	}
	for left := len(asked); left > 0; {
		select {
		case <-changed:
			cancel()
			changed = nil
		case q := <-proxied:
			left--
			if q != nil && !linked && r.linkProxied(ctx, q, s) {
				linked = true
				cancel()
			}
		}
	}
	return linked
}

// linkProxied links a client to a server behind Docker's proxy, if that keeps the connection.
func (r *route) linkProxied(ctx context.Context, q *question, s *session) bool {
	r.mu.Lock()
	if q.ctx.Err() != nil {
		r.mu.Unlock()
		return false
	}
	a := q.begin()
	r.mu.Unlock()
	ctx, cancel := a.within(ctx)
	defer cancel()
	known := make(chan error, 1)
	r.connect(ctx, a, s, q.stay, func(err error) { known <- err })
	return <-known == nil
}

// forgive has servers that must not be probed tried again at once. It is false where they may be probed.
func (r *route) forgive() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spec.Options.Check != deploy.NoCheck {
		return false
	}
	for _, u := range r.current {
		u.failedAt = time.Time{}
	}
	return true
}
