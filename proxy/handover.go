package proxy

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"dokku-expose/deploy"
	"dokku-expose/proxy/udp"
)

// ErrSuperseded is the error of a server that has retired: its successor is to be asked.
var ErrSuperseded = errors.New("another daemon has taken over")

// HandOver calls give with the table in force and the listening sockets, one for each of its routes in order, and with the flows of UDP. When
// give returns nil the server retires, because the successor listens from then on; its connections stay until they end, see
// [Server.Follow], and its flows are the successor's. An error of give is returned, and the server goes on as before. The sockets stay the
// server's: give passes copies of them to the successor.
//
// No other method changes the server while give runs. A server that has retired returns [ErrSuperseded].
func (s *Server) HandOver(give func(t deploy.Table, sockets []syscall.Conn, flows []Flow) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired {
		return ErrSuperseded
	}
	t := s.provenTable()
	sockets := make([]syscall.Conn, len(t.Routes))
	var flows []Flow
	var paused []*datagrams
	for i, spec := range t.Routes {
		l := s.listeners[spec.Key.Frontend()]
		sockets[i] = l.socket()
		if l.udp == nil {
			continue
		}
		paused = append(paused, l.udp)
		for _, f := range l.udp.pause() {
			flows = append(flows, f.handed(i))
		}
	}
	if err := give(t, sockets, flows); err != nil {
		for _, d := range paused {
			d.resume()
		}
		return err
	}
	s.retire()
	return nil
}

// TakeOver serves the table of another server with the sockets that [Server.HandOver] gave, one for each of its routes in order, and then
// one for each of the flows. It is the first thing that a new server does, and closes the files in any case. When it returns nil, connections are accepted: until the other
// server has retired, each connection goes to one of the two. After an error the server listens nowhere.
func (s *Server) TakeOver(t deploy.Table, flows []Flow, sockets []*os.File) (err error) {
	var taken []*listener
	defer func() {
		for _, file := range sockets {
			_ = file.Close()
		}
		if err != nil {
			for _, l := range taken {
				err = errors.Join(err, l.socket().Close())
			}
		}
	}()
	if err := CheckTable(t); err != nil {
		return err
	}
	if len(sockets) != len(t.Routes)+len(flows) {
		return fmt.Errorf("%d sockets for the %d routes of a table and %d flows of UDP", len(sockets), len(t.Routes), len(flows))
	}
	byFrontend := byFrontend(t.Routes)
	for _, specs := range byFrontend {
		// Routes that share a frontend have the same socket.
		i := slices.IndexFunc(t.Routes, func(r deploy.Route) bool { return r.Key == specs[0].Key })
		l, err := newListener(specs[0].Key.Frontend(), s, func(l *listener) error { return s.inherit(l, sockets[i]) })
		if err != nil {
			return err
		}
		taken = append(taken, l)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, specs := range byFrontend {
		l := taken[i]
		for j := range specs {
			if err := s.certify(&specs[j]); err != nil {
				// Clients of the port are told so until a table has a certificate for it.
				s.log.Error("certificate", "port", specs[j].Key.String(), "app", specs[j].App, "error", err)
			}
		}
		s.bind(l, specs)
		if l.udp != nil {
			s.adopt(l, specs[0], t, flows, sockets[len(t.Routes):])
		}
		s.accept(l)
	}
	t.Routes = slices.Concat(byFrontend...)
	s.table = t
	s.resize(t)
	return nil
}

// adopt takes over the flows of a route. One that can't be taken over begins anew when its client sends the next datagram.
func (s *Server) adopt(l *listener, spec deploy.Route, t deploy.Table, flows []Flow, sockets []*os.File) {
	r := s.route(spec)
	for i, f := range flows {
		if f.Route < 0 || f.Route >= len(t.Routes) || t.Routes[f.Route].Key != spec.Key {
			continue
		}
		socket, err := udp.Adopt(sockets[i], f.Server.Addr)
		if err == nil {
			err = l.udp.adopt(r, f, socket)
		}
		if err != nil {
			s.log.Error("a session of UDP can't be taken over, and begins anew", "port", spec.Key.String(), "app", spec.App, "client", f.Client.String(), "error", err)
		}
	}
}

// Table is the table in force, without the routes that could not be applied. A server of it is proven when it is known to accept now.
func (s *Server) Table() deploy.Table {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.provenTable()
}

// Connections counts the connections of clients, those that are held among them.
func (s *Server) Connections() int {
	n, _ := s.limit.counts()
	return n
}

// Retire stops listening for good. Connections go on, and clients that are held are still served. It waits for a HandOver that runs,
// and returns false when the server has retired already.
func (s *Server) Retire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired {
		return false
	}
	s.retire()
	return true
}

// retire does the work of Retire; mu is held.
func (s *Server) retire() {
	s.retired = true
	for _, l := range s.listeners {
		s.close(l)
	}
	for _, r := range s.routes {
		r.supersede()
	}
}

// Retired tells that the server has retired. It waits for a HandOver that runs.
func (s *Server) Retired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired
}

// Follow treats the connections of a retired server as the successor's table says: held clients are connected to its servers, and
// connections on old servers are cut when their time is up. A route that the table lacks holds no client any more. The table must be one
// that [CheckTable] accepts.
func (s *Server) Follow(t deploy.Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := make(map[routeKey]bool, len(t.Routes))
	var gone []*upstream
	for _, spec := range t.Routes {
		key := routeKey{spec.App, spec.Key}
		wanted[key] = true
		if r := s.routes[key]; r != nil {
			old, _ := r.update(spec)
			gone = append(gone, old...)
		}
	}
	for key, r := range s.routes {
		if !wanted[key] {
			gone = append(gone, r.deactivate()...)
		}
	}
	for _, u := range gone {
		u.dials.Wait()
	}
}
