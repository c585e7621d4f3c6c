package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
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
	flows      *flowBudget
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
	// unrecognized are clients that asked for a server name which no route has.
	unrecognized atomic.Uint64
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
		log: log, limit: limit, flows: newFlowBudget(limit.files), exhaustion: &exhaustionLog{log: log}, failed: failed, checks: make(chan struct{}, checksAtOnce), started: time.Now(),
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
	refused := make(map[deploy.Key]string)
	refuse := func(spec deploy.Route, message string, why error) {
		err = errors.Join(err, &deploy.RouteError{App: spec.App, Key: spec.Key, Err: why})
		refused[spec.Key] = why.Error()
		if s.refused[spec.Key] != why.Error() {
			s.log.Error(message, "port", spec.Key.String(), "app", spec.App, "error", why)
		}
	}
	var certified []deploy.Route
	wanted := make(map[deploy.Frontend]bool, len(t.Routes))
	for _, spec := range t.Routes {
		certErr := s.certify(&spec)
		if certErr != nil {
			refuse(spec, "certificate", certErr)
		}
		if certErr == nil || spec.Certificate != (deploy.Certificate{}) {
			certified = append(certified, spec)
			wanted[spec.Key.Frontend()] = true
		}
	}
	// Old listeners close first: a new one may overlap them.
	var gone []*upstream
	for listen, l := range s.listeners {
		if !wanted[listen] {
			s.close(l)
			gone = append(gone, s.giveUp(l.names.Load(), nil)...)
		}
	}
	s.table = deploy.Table{TotalConnections: t.TotalConnections}
	for _, specs := range byFrontend(certified) {
		old, switched, listenErr := s.applyRoutes(specs)
		gone = append(gone, old...)
		applied.Switched = append(applied.Switched, switched...)
		if listenErr == nil {
			s.table.Routes = append(s.table.Routes, specs...)
			continue
		}
		for _, spec := range specs {
			refuse(spec, "can't listen", listenErr)
		}
	}
	s.refused = refused
	// When Apply returns, no attempt to connect to an old server may succeed any more.
	for _, u := range gone {
		u.dials.Wait()
	}
	for _, l := range s.listeners {
		if l.udp != nil {
			l.udp.settle()
		}
	}
	s.forgetUnused()
	s.resize(t)
	return applied, err
}

// resize has the connections bounded by a table, and by the files that they leave to UDP.
func (s *Server) resize(t deploy.Table) {
	files := len(s.listeners)
	for _, l := range s.listeners {
		if l.udp != nil {
			files += s.flows.max
			break
		}
	}
	s.limit.resize(files, len(s.listeners) == 1, t.TotalConnections)
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

// byFrontend are the routes of each frontend, in the order of the first ones.
func byFrontend(routes []deploy.Route) (groups [][]deploy.Route) {
	at := make(map[deploy.Frontend]int)
	for _, r := range routes {
		i, known := at[r.Key.Frontend()]
		if !known {
			i = len(groups)
			at[r.Key.Frontend()] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], r)
	}
	return groups
}

// applyRoutes applies all routes of a frontend, at least one.
func (s *Server) applyRoutes(specs []deploy.Route) (gone []*upstream, switched []deploy.Key, err error) {
	if err := Supports(specs[0]); err != nil {
		return nil, nil, err
	}
	frontend := specs[0].Key.Frontend()
	l := s.listeners[frontend]
	opened := l == nil
	if opened {
		if l, err = s.listen(frontend); err != nil {
			return nil, nil, err
		}
	}
	gone, switched = s.bind(l, specs)
	if opened {
		s.accept(l)
	}
	return gone, switched, nil
}

// certify has the clients of spec's route see its certificate, where they speak TLS. After an error spec has the certificate that they see
// as before, or none.
func (s *Server) certify(spec *deploy.Route) error {
	r := s.route(*spec)
	r.postgres.Store(spec.Options.StartTLS == deploy.PostgresStartTLS)
	r.certifiesClients.Store(spec.ClientCA != "")
	if spec.Options.TLS != deploy.TerminateTLS {
		r.tls.Store(nil)
		r.certificate = deploy.Certificate{}
		return nil
	}
	if r.tls.Load() == nil {
		r.tls.Store(tls.NewServer())
	}
	err := r.tls.Load().Configure(tls.Options{Protocols: protocols(spec.Options), ClientCA: spec.ClientCA})
	if err != nil {
		return err
	}
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

// bind has the routes of specs serve a listener's connections from now on.
func (s *Server) bind(l *listener, specs []deploy.Route) (gone []*upstream, switched []deploy.Key) {
	routes := make([]*route, len(specs))
	for i, spec := range specs {
		routes[i] = s.route(spec)
	}
	before, now, most := l.names.Load(), newNames(routes), specs[0].Options.MaxConnections
	if now.shared {
		most = 0
	}
	s.limit.bound(l, most)
	for i, spec := range specs {
		r := routes[i]
		old, moved := r.update(spec)
		gone = append(gone, old...)
		if moved || before != nil && !before.has(r) {
			switched = append(switched, spec.Key)
		}
		if before == nil || before.byName[spec.Key.ServerName] == nil {
			s.log.Info("listening", "port", spec.Key.String(), "app", spec.App)
		}
	}
	l.names.Store(now)
	return append(gone, s.giveUp(before, now)...), switched
}

// giveUp takes routes out of service that a frontend had before, and has not any more.
func (s *Server) giveUp(before, now *names) (gone []*upstream) {
	if before == nil {
		return nil
	}
	for name, r := range before.byName {
		if now.has(r) {
			continue
		}
		gone = append(gone, r.deactivate()...)
		if now == nil || now.byName[name] == nil {
			s.log.Info("closed", "port", r.listen.String(), "app", r.app)
		}
	}
	return gone
}

// accept begins to accept connections.
func (s *Server) accept(l *listener) {
	s.listeners[l.listen] = l
	l.accept()
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
	if err := l.socket().Close(); err != nil {
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
	return nil
}

// CutOld implements [deploy.Engine].
func (s *Server) CutOld(context.Context, map[string]time.Duration) ([]deploy.Cut, error) {
	return nil, nil
}
