package proxy

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"dokku-expose/portsfile"
	"dokku-expose/proxy/tcp"
)

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
		select {
		case <-ctx.Done():
			return
		case r.checks <- struct{}{}:
		}
		wg.Add(1)
		dial(a.ctx, a.addr, true, func(conn *tcp.Conn, err error) {
			defer wg.Done()
			<-r.checks
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
