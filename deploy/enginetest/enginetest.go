// Package enginetest is what every engine must do, as tests: real sockets, real servers, and clients whose view is the only
// one that counts. An engine's own tests call [Run], and add what is particular to it.
//
// The package must know no engine: what it asks for is the contract of deploy.Engine and the promises of the project.
package enginetest

import (
	"cmp"
	"errors"
	"slices"
	"testing"
	"time"

	"dokku-expose/deploy"
)

// Run tests an engine. start runs a new one, without routes, that ends with the test it is given.
func Run(t *testing.T, start func(t *testing.T) deploy.Engine) {
	for _, c := range slices.Concat(switching, holding, failing, checking, listening, streaming, stalling, halfClosing, growing) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(&bench{T: t, engine: start(t)})
		})
	}
}

// RunTLS tests what goes another way where TLS ends at the engine. start is as for [Run].
func RunTLS(t *testing.T, start func(t *testing.T) deploy.Engine) {
	for _, c := range slices.Concat(holding, streaming, halfClosing) {
		t.Run("TLS: "+c.name, func(t *testing.T) {
			t.Parallel()
			b := &bench{T: t, engine: start(t)}
			cert := newCertificate(b)
			b.cert = &cert
			c.run(b)
		})
	}
}

type testCase struct {
	name string
	run  func(*bench)
}

// bench is a test with an engine of its own.
type bench struct {
	*testing.T
	engine deploy.Engine
	// cert has all routes and all clients speak TLS, nil for none.
	cert *certificate
}

// apply makes routes the engine's table, which must work.
func (b *bench) apply(routes ...deploy.Route) deploy.Applied {
	b.Helper()
	applied, err := b.tryApply(routes...)
	if err != nil {
		b.Fatal(err)
	}
	return applied
}

func (b *bench) tryApply(routes ...deploy.Route) (deploy.Applied, error) {
	slices.SortFunc(routes, func(x, y deploy.Route) int {
		return cmp.Or(cmp.Compare(x.App, y.App), x.Key.Compare(y.Key))
	})
	if b.cert != nil {
		for i := range routes {
			routes[i].Options.TLS, routes[i].Certificate = deploy.TerminateTLS, b.cert.Certificate
		}
	}
	return b.engine.Apply(b.Context(), deploy.Table{Routes: routes})
}

// switchTo applies a route that is there already, and fails when that took a reload.
func (b *bench) switchTo(routes ...deploy.Route) {
	b.Helper()
	if applied := b.apply(routes...); applied.Reload != "" {
		b.Errorf("a switch took a reload: %s", applied.Reload)
	}
}

// routeErrors are the errors of single routes that an Apply returned, and nothing else may have been wrong.
func (b *bench) routeErrors(err error) []*deploy.RouteError {
	b.Helper()
	switch e := err.(type) { //nolint:errorlint // one level at a time is the point
	case nil:
		return nil
	case *deploy.RouteError:
		return []*deploy.RouteError{e}
	case interface{ Unwrap() []error }:
		var list []*deploy.RouteError
		for _, one := range e.Unwrap() {
			list = append(list, b.routeErrors(one)...)
		}
		return list
	}
	b.Fatalf("more than routes failed: %v", err)
	return nil
}

// oneRouteError is the error of exactly one route.
func (b *bench) oneRouteError(err error, app string, listen deploy.Key) *deploy.RouteError {
	b.Helper()
	list := b.routeErrors(err)
	if len(list) != 1 || list[0].App != app || list[0].Key != listen {
		b.Fatalf("got %v, want one error, of public port %s of %s", err, listen, app)
	}
	if errors.Unwrap(list[0]) == nil {
		b.Fatal("the error has no reason")
	}
	return list[0]
}

// port is a public address on every address of the host.
func (b *bench) port() deploy.Key {
	b.Helper()
	return deploy.Key{Port: FreePort(b)}
}

// route is a route with the settings' defaults.
func route(app string, listen deploy.Key, servers ...deploy.Server) deploy.Route {
	return deploy.Route{App: app, Process: "web", Key: listen, Servers: servers, Hold: 10 * time.Second, HealthCheck: 2 * time.Second}
}

// proven are servers that accepted in this reconcile.
func proven(servers ...*Server) []deploy.Server {
	var list []deploy.Server
	for _, s := range servers {
		list = append(list, s.server(true))
	}
	return list
}
