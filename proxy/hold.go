package proxy

import (
	"context"
	"time"
)

// hold keeps a client waiting until a server is up, for as long as the route holds. It blocks, and ends with the client linked or
// closed.
func (r *route) hold(s *session, changed <-chan struct{}) {
	r.held.Add(1)
	linked := r.await(s, changed)
	r.held.Add(-1)
	if !linked {
		r.unserved.Add(1)
		s.giveUp()
	}
}

// await returns true when the client is linked. One of those that wait tries the servers that are not up.
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
		case r.turn <- struct{}{}:
			linked := r.tryDown(ctx, s, changed)
			if !linked {
				// Servers that are up are tried too, for those who wait for something that this host lacked: each who gets it lets the
				// next one try at once.
				linked, changed = r.tryUp(s)
			}
			if !linked && changed != nil {
				select {
				case <-ctx.Done():
				case <-changed:
				case <-time.After(retryInterval):
				}
			}
			<-r.turn
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

// tryUp tries the servers that are up, and waits until it is known what became of that.
func (r *route) tryUp(s *session) (linked bool, changed <-chan struct{}) {
	known := make(chan struct{})
	r.try(s, func(l bool, c <-chan struct{}) {
		linked, changed = l, c
		close(known)
	})
	<-known
	return linked, changed
}

// tryDown tries all servers that are not up at the same time, until one answers or something changes.
func (r *route) tryDown(ctx context.Context, s *session, changed <-chan struct{}) (linked bool) {
	r.mu.Lock()
	var down []attempt
	for _, u := range r.current {
		if !u.up {
			down = append(down, u.begin())
		}
	}
	r.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tried := make(chan error, len(down))
	for _, a := range down {
		ctx, cancel := context.WithCancel(ctx)
		unbind := context.AfterFunc(a.ctx, cancel)
		r.connect(ctx, a, s, true, func(err error) {
			unbind()
			cancel()
			tried <- err
		})
	}
	for left := len(down); left > 0; {
		select {
		case <-changed:
			cancel()
			changed = nil
		case err := <-tried:
			left--
			if err == nil {
				linked = true
				cancel()
			}
		}
	}
	return linked
}
