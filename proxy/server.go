package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/proxy/tls"
)

// EngineName is the word for the built-in engine in the setting `engine`.
const EngineName = "builtin"

// Server serves a table. It implements [deploy.Engine] for the process that it is in; its methods may be called from any
// goroutine. [Server.Close] must be called.
type Server struct {
	log        *slog.Logger
	limit      *limiter
	exhaustion *exhaustionLog
	// failed is called when a server of a route has gone down.
	failed  func()
	started time.Time

	// mu keeps changes apart: one Apply, or one handover, at a time.
	mu        sync.Mutex
	table     deploy.Table
	listeners map[deploy.Frontend]*listener
	routes    map[routeKey]*route
	// checks are slots for all connect checks together, appChecks those of each app.
	checks    chan struct{}
	appChecks map[string]chan struct{}
	// refused are the errors that were logged of addresses that can't be listened on. Each Apply tries these again.
	refused map[deploy.Key]string
	// retired tells that the server does not listen any more, and never will again.
	retired bool
	// switches are the Applies that switched anything, switchTime is what they took.
	switches   uint64
	switchTime time.Duration
}

type routeKey struct {
	app    string
	listen deploy.Key
}

var _ deploy.Engine = (*Server)(nil)

// NewServer makes a server that listens nowhere yet. It has as many connections at a time as its table and the limit of open files
// allow; clients beyond that wait. The error says that this limit is too low. failed is called when a server of a route has gone down,
// which only a table can bring back; it must not block. It may be nil.
func NewServer(log *slog.Logger, failed func()) (*Server, error) {
	if failed == nil {
		failed = func() {}
	}
	limit, err := newLimiter()
	if err != nil {
		return nil, err
	}
	return &Server{
		log: log, limit: limit, exhaustion: &exhaustionLog{log: log}, failed: failed, checks: make(chan struct{}, checksAtOnce), started: time.Now(),
		listeners: make(map[deploy.Frontend]*listener), routes: make(map[routeKey]*route), appChecks: make(map[string]chan struct{}),
	}, nil
}

// Name implements [deploy.Engine].
func (s *Server) Name() string { return EngineName }

// Apply implements [deploy.Engine]. A server that has retired returns [ErrSuperseded].
func (s *Server) Apply(_ context.Context, t deploy.Table) (deploy.Applied, error) {
	if err := CheckTable(t); err != nil {
		return deploy.Applied{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired {
		return deploy.Applied{}, ErrSuperseded
	}
	began := time.Now()
	applied, err := s.apply(t)
	if len(applied.Switched) > 0 {
		s.switches++
		s.switchTime += time.Since(began)
	}
	return applied, err
}

// apply does the work of Apply; mu is held.
func (s *Server) apply(t deploy.Table) (applied deploy.Applied, err error) {
	wanted := make(map[deploy.Frontend]bool, len(t.Routes))
	for _, r := range t.Routes {
		wanted[r.Key.Frontend()] = true
	}
	// Old listeners close first: a new one may overlap them.
	var gone []*upstream
	for listen, l := range s.listeners {
		if !wanted[listen] {
			s.close(l)
			gone = append(gone, l.route.Load().deactivate()...)
			s.log.Info("closed", "port", listen.String(), "app", l.route.Load().app)
		}
	}
	s.table = deploy.Table{TotalConnections: t.TotalConnections}
	refused := make(map[deploy.Key]string)
	for _, spec := range t.Routes {
		refuse := func(message string, why error) {
			err = errors.Join(err, &deploy.RouteError{App: spec.App, Key: spec.Key, Err: why})
			refused[spec.Key] = why.Error()
			if s.refused[spec.Key] != why.Error() {
				s.log.Error(message, "port", spec.Key.String(), "app", spec.App, "error", why)
			}
		}
		if certErr := s.certify(&spec); certErr != nil {
			refuse("certificate", certErr)
			if spec.Certificate == (deploy.Certificate{}) {
				continue
			}
		}
		old, switched, routeErr := s.applyRoute(spec)
		gone = append(gone, old...)
		if routeErr != nil {
			refuse("can't listen", routeErr)
			continue
		}
		s.table.Routes = append(s.table.Routes, spec)
		if switched {
			applied.Switched = append(applied.Switched, spec.Key)
		}
	}
	s.refused = refused
	// When Apply returns, no attempt to connect to an old server may succeed any more.
	for _, u := range gone {
		u.dials.Wait()
	}
	s.forgetUnused()
	s.limit.resize(len(s.listeners), t.TotalConnections)
	return applied, err
}

// forgetUnused forgets routes that have left the table and have no connections, and their apps.
func (s *Server) forgetUnused() {
	maps.DeleteFunc(s.routes, func(_ routeKey, r *route) bool { return r.unused() })
	apps := make(map[string]bool)
	for key := range s.routes {
		apps[key.app] = true
	}
	maps.DeleteFunc(s.appChecks, func(app string, _ chan struct{}) bool { return !apps[app] })
}

func (s *Server) applyRoute(spec deploy.Route) (gone []*upstream, switched bool, err error) {
	if err := Supports(spec); err != nil {
		return nil, false, err
	}
	l := s.listeners[spec.Key.Frontend()]
	opened := l == nil
	if opened {
		socket, err := listen(spec.Key.Frontend())
		if err != nil {
			return nil, false, err
		}
		l = newListener(spec.Key.Frontend(), socket, s.limit, s.log)
	}
	gone, switched = s.bind(l, spec)
	if opened {
		s.accept(l)
		s.log.Info("listening", "port", spec.Key.String(), "app", spec.App)
	}
	return gone, switched, nil
}

// certify has the clients of spec's route see its certificate, where they speak TLS. After an error spec has the certificate that they see
// as before, or none.
func (s *Server) certify(spec *deploy.Route) error {
	r := s.route(*spec)
	if spec.Options.TLS != deploy.TerminateTLS {
		r.tls.Store(nil)
		r.certificate = deploy.Certificate{}
		return nil
	}
	if r.tls.Load() == nil {
		r.tls.Store(tls.NewServer())
	}
	var err error
	switch wanted := spec.Certificate; wanted {
	case r.certificate:
	case deploy.Certificate{}:
	default:
		if err = r.tls.Load().Use(wanted.Chain, wanted.Key); err == nil {
			r.certificate = wanted
		}
	}
	spec.Certificate = r.certificate
	switch {
	case err != nil:
		return fmt.Errorf("its certificate can't be used; give the app another one (dokku certs:add %s): %w", spec.App, err)
	case spec.Certificate == (deploy.Certificate{}):
		return fmt.Errorf("it has %w to serve TLS by; give the app one: dokku certs:add %s", deploy.ErrNoCertificate, spec.App)
	}
	return nil
}

// bind has the route of spec serve a listener's connections from now on.
func (s *Server) bind(l *listener, spec deploy.Route) (gone []*upstream, switched bool) {
	r := s.route(spec)
	gone, switched = r.update(spec)
	s.limit.bound(l, spec.Options.MaxConnections)
	if before := l.route.Swap(r); before != nil && before != r {
		gone = append(gone, before.deactivate()...)
		switched = true
	}
	return gone, switched
}

// accept begins to accept connections.
func (s *Server) accept(l *listener) {
	s.listeners[l.listen] = l
	l.tcp.Serve(l)
}

func (s *Server) route(spec deploy.Route) *route {
	key := routeKey{spec.App, spec.Key}
	r := s.routes[key]
	if r == nil {
		if s.appChecks[spec.App] == nil {
			s.appChecks[spec.App] = make(chan struct{}, checksOfApp)
		}
		r = newRoute(spec.App, spec.Key, slots{s.appChecks[spec.App], s.checks}, s.log, s.exhaustion, s.failed)
		s.routes[key] = r
	}
	return r
}

// close stops listening at one address.
func (s *Server) close(l *listener) {
	delete(s.listeners, l.listen)
	if err := l.tcp.Close(); err != nil {
		s.log.Error("close", "port", l.listen.String(), "error", err)
	}
}

// Close stops listening and lets the connections go on until ctx ends; those that are left are then reset.
func (s *Server) Close(ctx context.Context) {
	s.Retire()
	if left := s.drain(ctx); left > 0 {
		s.log.Warn("cutting connections", "connections", left)
		s.cut()
		s.drain(context.Background())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.routes {
		r.deactivate()
	}
}

// drain waits until there is no connection or ctx ends, and returns how many are left.
func (s *Server) drain(ctx context.Context) int {
	for {
		closed := s.limit.busy()
		if closed == nil {
			return 0
		}
		select {
		case <-closed:
		case <-ctx.Done():
			return s.Connections()
		}
	}
}

// cut resets all connections.
func (s *Server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.routes {
		r.deactivate()
		r.mu.Lock()
		for _, u := range slices.Concat(r.current, r.retired) {
			u.cutAll(nil)
		}
		r.mu.Unlock()
	}
}

// Supports implements [deploy.Engine].
func (s *Server) Supports(r deploy.Route) error { return Supports(r) }

// Supports says what the built-in engine can't serve on any host. An error is a [deploy.ErrUnsupported].
func Supports(r deploy.Route) error {
	if r.Key.Proto != deploy.TCP {
		return fmt.Errorf("UDP is %w by the built-in engine", deploy.ErrUnsupported)
	}
	return nil
}

// CutOld implements [deploy.Engine].
func (s *Server) CutOld(context.Context, map[string]time.Duration) ([]deploy.Cut, error) {
	return nil, nil
}
