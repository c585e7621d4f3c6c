package proxy

import (
	"net/netip"

	"dokku-expose/proxy/tcp"
	"dokku-expose/proxy/tls"
)

// session is a client's connection, from when it was accepted until it ends.
type session struct {
	listener *listener
	// named tells that the client has been asked for a server name, because routes share the listener; "" is none.
	named bool
	name  string
	// gated is the gate that it counts at, nil for none.
	gated *gate
	// opening is what it has said before TLS, where it speaks Postgres.
	opening opening
	// client and ends are nil once it is linked, ends also until locate.
	client *tcp.Conn
	ends   *ends
	// announced tells that the PROXY header has been read.
	announced bool
	// secure is the client once it speaks TLS, instead of client.
	secure *tls.Conn
	// upstream and relay are those that it was linked to, nil before; the route's mutex guards them until then.
	upstream *upstream
	relay    relay
}

// relay moves the bytes of a connection, see [tcp.Relay].
type relay interface {
	Reset(then func(reset bool))
}

// ends are where a connection comes from, and which public address it was made to.
type ends struct{ source, destination netip.AddrPort }

// locate finds out the ends of the connection. An error says that there is none any more.
func (s *session) locate() error {
	if s.ends != nil {
		return nil
	}
	source, err := s.client.Remote()
	if err != nil {
		return err
	}
	destination, err := s.client.Local()
	if err != nil {
		return err
	}
	s.ends = &ends{source, destination}
	return nil
}

// enter finds the route of a client. It runs in the client's loop.
func (s *session) enter() {
	routes := s.listener.names.Load()
	a := routes.first.admission.Load()
	switch {
	case a == nil || s.announced:
		s.choose(routes)
	case s.locate() != nil:
		s.reject() // it has gone already
	case contain(a.proxies, s.ends.source.Addr()):
		s.awaitHeader(s.ends.source.Addr())
	default:
		s.choose(routes)
	}
}

// awaitHeader reads the PROXY header of a proxy.
func (s *session) awaitHeader(proxy netip.Addr) {
	s.client.ReadHead(headerTimeout, func(b []byte) (int, bool, error) {
		n, told, err := parseHeader(b)
		if told != nil {
			s.ends = told
		}
		return n, n > 0, err
	}, func(err error) {
		s.announced = true
		routes := s.listener.names.Load()
		// The address may have another app's route now, which does not trust that proxy.
		if a := routes.first.admission.Load(); err != nil || a == nil || !contain(a.proxies, proxy) {
			s.reject()
			return
		}
		s.choose(routes)
	})
}

// choose leaves the client to one of the routes.
func (s *session) choose(routes *names) {
	switch {
	case !routes.shared:
		s.admit(routes.first)
	case routes.first.postgres.Load() && !s.opened():
		s.awaitOpening(routes.first, false, s.awaitName)
	default:
		s.awaitName()
	}
}

// admit has a route serve the client, if its options let the client in. It runs in the client's loop.
func (s *session) admit(r *route) {
	a := r.admission.Load()
	switch {
	case a != nil && s.locate() != nil:
		s.reject() // it has gone already
	case a != nil && !a.admits(s.ends.source.Addr()):
		s.reject()
	case s.named:
		r.gate.enter(s, r)
	default:
		s.begin(r)
	}
}

// reject closes a connection that is not let in, with a reset: it leaves nothing behind, where a flood would leave thousands of dying
// sockets.
func (s *session) reject() {
	s.client.Reset()
	s.release()
}

// release counts the end of a connection.
func (s *session) release() {
	s.ungate()
	s.listener.limit.release(s.listener)
}

// ungate has the client leave the gate of its route.
func (s *session) ungate() {
	if s.gated != nil {
		s.gated.leave()
		s.gated = nil
	}
}

// begin has a route serve the client. It runs in the client's loop. Only a client that is held, or speaks TLS, takes a goroutine.
func (s *session) begin(r *route) {
	terminator := r.tls.Load()
	switch {
	case r.postgres.Load() && !s.opened():
		s.awaitOpening(r, !r.certifiesClients.Load(), func() { s.begin(r) })
	case terminator == nil || s.opening == cancels:
		s.serve(r)
	case s.locate() != nil:
		s.reject() // it has gone already
	default:
		go s.terminate(terminator, r)
	}
}

// terminate has TLS end here before a route serves the client.
func (s *session) terminate(server *tls.Server, r *route) {
	client, err := s.client.Detach()
	if err != nil {
		r.short(err)
		s.release()
		return
	}
	// Postgres too takes TLS without a question before it only from clients that say by ALPN that they mean Postgres.
	direct := s.opening == beginsTLS && r.postgres.Load()
	if s.secure, err = server.Handshake(client, direct); err != nil {
		r.handshakesFailed.Add(1)
		s.release()
		return
	}
	r.countVersion(s.secure.Version())
	s.serve(r)
}

// serve has a route serve a client that speaks no TLS, or has begun to.
func (s *session) serve(r *route) {
	r.connectAny(s, func(linked bool, changed <-chan struct{}) {
		switch {
		case linked:
		case changed != nil:
			go r.hold(s, changed)
		default:
			if s.listener.names.Load().of(s.name) != r && !s.announced && s.opening == unread && s.secure == nil {
				// The address has another app's route since the connection was accepted. This may be the loop of an attempt to connect,
				// and the client is read in its own loop.
				s.client.Post(func() {
					s.ungate()
					s.enter()
				})
				return
			}
			s.giveUp()
		}
	})
}

// giveUp closes a connection that has no server.
func (s *session) giveUp() {
	if s.secure != nil {
		_ = s.secure.Close()
	}
	s.client.Close()
	s.release()
}
