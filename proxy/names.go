package proxy

import (
	"dokku-expose/deploy"
	"dokku-expose/proxy/tls"
)

// names are the routes that share a frontend, by the server name that their clients ask for. It is never empty, and never changes.
type names struct {
	byName map[string]*route
	// first is any one of them: all read the PROXY headers of the same proxies.
	first *route
	// shared tells that clients have to say which route they want.
	shared bool
}

// newNames are the routes, at least one.
func newNames(routes []*route) *names {
	n := &names{byName: make(map[string]*route, len(routes)), first: routes[0]}
	for _, r := range routes {
		n.byName[r.listen.ServerName] = r
		n.shared = n.shared || r.listen.ServerName != ""
	}
	return n
}

// of is the route for a name, nil for one that nobody has.
func (n *names) of(name string) *route {
	for _, key := range deploy.ServerNamesFor(name) {
		if r := n.byName[key]; r != nil {
			return r
		}
	}
	return nil
}

// has tells whether a route is among them.
func (n *names) has(r *route) bool { return n != nil && n.byName[r.listen.ServerName] == r }

// unrecognizedName is the alert of TLS for a name that nobody has (RFC 6066): fatal, 112.
var unrecognizedName = []byte{21, 3, 3, 0, 2, 2, 112}

// awaitName reads the server name that the client asks for, and leaves it to its route. What the client says stays unread for that.
func (s *session) awaitName() {
	var r *route
	s.client.ReadHead(tls.HandshakeTimeout, func(b []byte) (length int, complete bool, err error) {
		if s.name, complete, err = tls.ServerName(b); !complete {
			return 0, false, err
		}
		if r = s.listener.names.Load().of(s.name); r == nil {
			// Unread bytes make the end a reset, which could overtake the alert.
			length = len(b)
		}
		return length, true, err
	}, func(err error) {
		switch {
		case err != nil:
			s.reject()
		case r == nil:
			s.listener.unrecognized.Add(1)
			// A client that does not take seven bytes has gone.
			_, _ = s.client.Write(unrecognizedName)
			s.giveUp()
		default:
			s.named = true
			s.admit(r)
		}
	})
}
