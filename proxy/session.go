package proxy

import "dokku-expose/proxy/tcp"

// session is a client's connection, from when it was accepted until it ends.
type session struct {
	listener *listener
	client   *tcp.Conn
	// upstream and relay are those that it was linked to, nil before; the route's mutex guards them until then.
	upstream *upstream
	relay    *tcp.Relay
}

// begin has a route serve the client. It runs in a loop, and so does all that comes; only what has to wait for a server to come
// up takes a goroutine.
func (s *session) begin(r *route) {
	r.try(s, func(linked bool, changed <-chan struct{}) {
		switch {
		case linked:
		case changed != nil:
			go r.hold(s, changed)
		default:
			if now := s.listener.route.Load(); now != r {
				// The address has gone over to another app since the connection was accepted.
				s.begin(now)
				return
			}
			s.giveUp()
		}
	})
}

// giveUp closes a connection that has no server.
func (s *session) giveUp() {
	s.client.Close()
	s.listener.limit.end(s.listener)
}
