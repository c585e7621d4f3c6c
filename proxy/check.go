package proxy

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"dokku-expose/portsfile"
	"dokku-expose/proxy/tcp"
)

const (
	// checksAtOnce bounds the connect checks in flight, checksOfApp those of one app: a check of a server that does not answer takes
	// as long as an attempt to connect, and an app with a thousand of them must not have the others wait for it.
	checksAtOnce = 64
	checksOfApp  = 16
)

// slots are those that checks take. Who waits for one of an app's does not wait for one of everybody's yet.
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
		case <-r.kick:
			r.checkAll(ctx, func(u *upstream) bool { return !u.up })
		case <-timer.C:
			r.checkAll(ctx, func(*upstream) bool { return true })
			timer.Reset(interval)
		}
	}
}

// checkAll checks the servers for which which is true, and returns when it is known of each whether it is up.
func (r *route) checkAll(ctx context.Context, which func(*upstream) bool) {
	r.mu.Lock()
	form := r.spec.Options.ProxyProtocol
	var list []attempt
	for _, u := range r.current {
		if which(u) {
			list = append(list, attempt{u, u.ctx})
		}
	}
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, a := range list {
		if !r.checks.take(ctx) {
			return
		}
		wg.Add(1)
		dial(a.ctx, a.addr, true, func(conn *tcp.Conn, err error) {
			defer wg.Done()
			r.checks.give()
			switch {
			case err != nil:
			case form == "":
				// A reset leaves nothing behind, where thousands of checks a minute would leave as many dying sockets.
				conn.Reset()
			default:
				err = announce(conn, form)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if a.ctx.Err() == nil && !isLocal(err) {
				r.mark(a.upstream, err == nil)
			}
		})
	}
	wg.Wait()
}

// announce says whose connection a check is, for apps that take one without a header for a mistake, and closes it.
func announce(conn *tcp.Conn, form portsfile.ProxyProtocol) error {
	defer conn.Close()
	source, err := conn.Local()
	if err != nil {
		return err
	}
	destination, err := conn.Remote()
	if err != nil {
		return err
	}
	_, err = conn.Write(ends{source, destination}.headerOfCheck(form))
	return err
}
