package proxy

import (
	"net/netip"

	"dokku-expose/proxy/tcp"
	"dokku-expose/proxy/tls"
)

// session is a client's connection, from when it was accepted until it ends.
type session struct {
	listener *listener
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

// enter has a route serve the client, if its options let the client in. It runs in the client's loop.
func (s *session) enter(r *route) {
	a := r.admission.Load()
	switch {
	case a == nil:
		s.begin(r)
	case s.locate() != nil:
		s.reject() // it has gone already
	case !s.announced && contain(a.proxies, s.ends.source.Addr()):
		s.awaitHeader(r)
	case a.admits(s.ends.source.Addr()):
		s.begin(r)
	default:
		s.reject()
	}
}

// awaitHeader reads the PROXY header.
func (s *session) awaitHeader(r *route) {
	s.client.ReadHead(headerTimeout, func(b []byte) (int, error) {
		n, told, err := parseHeader(b)
		if told != nil {
			s.ends = told
		}
		return n, err
	}, func(err error) {
		s.announced = true
		// The address may have another app's route now, which does not trust that proxy.
		if err != nil || s.listener.route.Load() != r {
			s.reject()
			return
		}
		s.enter(r)
	})
}

// reject closes a connection that is not let in, with a reset: it leaves nothing behind, where a flood would leave thousands of dying
// sockets.
func (s *session) reject() {
	s.client.Reset()
	s.listener.limit.release(s.listener)
}

// begin has a route serve the client. It runs in the client's loop. Only a client that is held, or speaks TLS, takes a goroutine.
func (s *session) begin(r *route) {
	terminator := r.tls.Load()
	switch {
	case terminator == nil:
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
		s.listener.limit.release(s.listener)
		return
	}
	if s.secure, err = server.Handshake(client); err != nil {
		r.handshakesFailed.Add(1)
		s.listener.limit.release(s.listener)
		return
	}
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
			if s.listener.route.Load() != r && !s.announced && s.secure == nil {
				// The address has another app's route since the connection was accepted. This may be the loop of an attempt to connect,
				// and the client is read in its own loop.
				s.client.Post(func() { s.enter(s.listener.route.Load()) })
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
	s.listener.limit.release(s.listener)
}
