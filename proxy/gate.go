package proxy

import "sync"

// gate bounds how many connections a route has at once, where it shares its listener: these were accepted already, and wait for one to end.
// The zero value has no bound.
type gate struct {
	mu sync.Mutex
	// most is 0 for no bound.
	most, count int
	waiting     []func()
}

// enter has the route serve the client as soon as there is room.
func (g *gate) enter(s *session, r *route) {
	s.gated = g
	g.mu.Lock()
	if g.most > 0 && g.count >= g.most {
		// The connection that ends may be in another loop than the client.
		g.waiting = append(g.waiting, func() { s.client.Post(func() { s.begin(r) }) })
		g.mu.Unlock()
		return
	}
	g.count++
	g.mu.Unlock()
	s.begin(r)
}

// leave is called when a connection that entered has ended.
func (g *gate) leave() {
	g.mu.Lock()
	g.count--
	g.admit()
}

// bound sets how many connections there may be, 0 for no bound.
func (g *gate) bound(most int) {
	g.mu.Lock()
	g.most = most
	g.admit()
}

// admit lets in those that there is room for. The mutex is held, and is not any more.
func (g *gate) admit() {
	n := len(g.waiting)
	if g.most > 0 {
		n = max(0, min(n, g.most-g.count))
	}
	next := g.waiting[:n]
	g.waiting, g.count = g.waiting[n:], g.count+n
	g.mu.Unlock()
	for _, begin := range next {
		begin()
	}
}
