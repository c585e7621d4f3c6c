package proxy

import (
	"context"
	"time"

	"dokku-expose/proxy/tcp"
)

// hold keeps a client waiting until a server is up, for as long as the route holds. One of those that wait tries the servers
// that are not.
func (r *route) hold(client *tcp.Conn, changed <-chan struct{}) *link {
	r.held.Add(1)
	defer r.held.Add(-1)
	r.mu.Lock()
	wait := r.spec.Hold
	r.mu.Unlock()
	if wait <= 0 {
		l := r.tryDown(context.Background(), client, changed)
		if l == nil {
			l, _ = r.try(client)
		}
		return l
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case r.turn <- struct{}{}:
			l := r.tryDown(ctx, client, changed)
			if l == nil {
				select {
				case <-ctx.Done():
				case <-changed:
				case <-time.After(retryInterval):
				}
			}
			<-r.turn
			if l != nil {
				return l
			}
		}
		var l *link
		if l, changed = r.try(client); l != nil || changed == nil {
			return l
		}
	}
}

// tryDown tries all servers that are not up at the same time, until one answers or something changes.
func (r *route) tryDown(ctx context.Context, client *tcp.Conn, changed <-chan struct{}) *link {
	r.mu.Lock()
	var down []*attempt
	for _, u := range r.current {
		if !u.up {
			down = append(down, u.begin())
		}
	}
	r.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tried := make(chan *link, len(down))
	for _, a := range down {
		go func() {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(a.ctx, cancel)()
			l, _ := r.connect(ctx, a, client, true)
			tried <- l
		}()
	}
	var first *link
	for left := len(down); left > 0; {
		select {
		case <-changed:
			cancel()
			changed = nil
		case l := <-tried:
			left--
			switch {
			case l == nil:
			case first == nil:
				first = l
				cancel()
			default:
				l.server.Reset()
				r.end(l)
			}
		}
	}
	return first
}
