package proxy

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"dokku-expose/proxy/tcp"
)

const (
	// checksAtOnce bounds the connect checks in flight, checksOfApp those of one app: a check of a server that does not answer takes
	// as long as an attempt to connect, and an app with a thousand of them must not have the others wait for it.
	checksAtOnce = 64
	checksOfApp  = 16
)

// slots are those that a check takes: first one of its app's, then one of all.
type slots struct{ ofApp, all chan struct{} }

// take returns false when ctx has ended before there is a slot.
func (s slots) take(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case s.ofApp <- struct{}{}:
	}
	select {
	case <-ctx.Done():
		<-s.ofApp
		return false
	case s.all <- struct{}{}:
		return true
	}
}

func (s slots) give() {
	<-s.all
	<-s.ofApp
}

// restartChecks has the servers checked at an interval, 0 for never. The mutex is held.
func (r *route) restartChecks(interval time.Duration) {
	if r.stopChecks != nil {
		r.stopChecks()
		r.stopChecks = nil
	}
	if interval > 0 {
		var ctx context.Context
		ctx, r.stopChecks = context.WithCancel(context.Background())
		go r.check(ctx, interval)
	}
}

func (r *route) check(ctx context.Context, interval time.Duration) {
	// Not all routes of a table at the same time.
	timer := time.NewTimer(rand.N(interval))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			r.checkAll(ctx)
			timer.Reset(interval)
		}
	}
}

// checkAll checks the servers that are up, and returns when it is known of each whether it is so still.
func (r *route) checkAll(ctx context.Context) {
	var wg sync.WaitGroup
	for _, q := range r.questions(func(u *upstream) bool { return u.up }) {
		if !r.checks.take(ctx) {
			return
		}
		wg.Add(1)
		tcp.Probe(q.ctx, q.addr, connectTimeout, func(err error) {
			defer wg.Done()
			r.checks.give()
			r.checked(q, err)
		})
	}
	wg.Wait()
}

// question is a server that is about to be asked whether it accepts.
type question struct {
	attempt
	// stay is how long it must keep a connection open for that, 0 where it does not get one: a container that is up behind Docker's
	// proxy is not asked again, for its end is the proxy's.
	stay time.Duration
}

func (r *route) questions(which func(*upstream) bool) (list []question) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.current {
		if which(u) {
			q := question{attempt: attempt{u, u.ctx}}
			if !u.up {
				q.stay = u.stay()
			}
			list = append(list, q)
		}
	}
	return list
}

// checked notes the answer of a server. A shortage of this host proves nothing.
func (r *route) checked(q question, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case q.ctx.Err() != nil:
	case isExhaustion(err):
		r.exhaustion.report(r.app, r.listen, err)
	default:
		r.mark(q.upstream, err == nil)
	}
}
