package deploy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/proxy"
	"dokku-expose/proxy/control"
)

// limited is an engine that does not support some public ports, nor some server names.
type limited struct {
	deploy.Engine
	not      []uint16
	nameless []string
}

func (l *limited) Supports(r deploy.Route) error {
	if slices.Contains(l.not, r.Key.Port) || slices.Contains(l.nameless, r.Key.ServerName) {
		return fmt.Errorf("port %d is %w", r.Key.Port, deploy.ErrUnsupported)
	}
	return l.Engine.Supports(r)
}

// mute is an engine that can't be asked.
type mute struct{ deploy.Engine }

func (mute) Observe(context.Context, ...deploy.Aspect) (deploy.Observation, error) {
	return deploy.Observation{}, errors.New("no answer")
}

func builtin(t *testing.T) deploy.Engine {
	t.Helper()
	s, err := proxy.NewServer(slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Close(ctx)
	})
	return s
}

// The other engine serves the routes that the engine in force does not support, and no other one, whatever it has served before.
func TestEnginesBesideOneAnother(t *testing.T) {
	for name, start := range map[string]func(*testing.T) deploy.Engine{
		"haproxy": func(t *testing.T) deploy.Engine { return haproxytest.Start(t).Engine },
		"builtin": builtin,
	} {
		t.Run(name, func(t *testing.T) {
			app := enginetest.NewServer(t, "v1")
			route := func(name string) deploy.Route {
				return deploy.Route{App: name, Process: "web", Key: deploy.Key{Port: enginetest.FreePort(t)},
					Servers: []deploy.Server{{Container: "v1", Dyno: "web.1", Addr: app.Addr, Proven: true}}}
			}
			plain, special := route("plain"), route("special")
			inForce, other := &limited{Engine: start(t), not: []uint16{special.Key.Port}}, builtin(t)
			var warned error
			engines := &deploy.Engines{InForce: inForce, Other: other, Fallback: true, Warn: func(err error) { warned = err }}
			serves := func(e deploy.Engine, want ...deploy.Route) {
				t.Helper()
				o, err := e.Observe(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got := o.Serving()
				for _, r := range want {
					if s := got[r.Key]; s.App != r.App || !slices.Equal(s.Addresses(true), []netip.AddrPort{app.Addr}) {
						t.Errorf("%s is served as %+v", r.App, s)
					}
					conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.Key.Port))
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "v1 ") {
						t.Errorf("%s: got %q, %v", r.App, line, err)
					}
				}
				if len(got) != len(want) {
					t.Errorf("%d routes are served, want %d", len(got), len(want))
				}
			}
			apply := func(routes ...deploy.Route) error {
				t.Helper()
				_, err := engines.Apply(t.Context(), deploy.Table{Routes: routes})
				return err
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}

			// The other engine was in force before.
			_, err := other.Apply(t.Context(), deploy.Table{Routes: []deploy.Route{plain}})
			must(err)
			serves(engines)
			must(apply(plain, special))
			serves(engines, plain, special)
			serves(inForce, plain)
			serves(other, special)

			inForce.not = nil // an update of it
			must(apply(plain, special))
			serves(inForce, plain, special)
			serves(other)

			inForce.not = []uint16{special.Key.Port}
			must(apply(plain, special))
			serves(other, special)
			must(apply(plain))
			serves(other)
			serves(engines, plain)

			// Without the other one nothing else suffers.
			engines.Other = mute{other}
			must(apply(plain))
			if serves(engines, plain); warned == nil || !strings.Contains(warned.Error(), "no answer") {
				t.Errorf("warned of %v", warned)
			}
			engines.Other = control.NewClient(control.ClientConfig{Control: t.TempDir() + "/nobody"}, nil)
			err = apply(plain, special)
			var routeErr *deploy.RouteError
			if !errors.As(err, &routeErr) || routeErr.App != "special" || !errors.Is(err, deploy.ErrNotRunning) {
				t.Errorf("got %v", err)
			}
			serves(engines, plain)

			engines.Fallback, engines.Other = false, other
			if err := engines.Supports(special); !errors.Is(err, deploy.ErrUnsupported) {
				t.Errorf("without a fallback: %v", err)
			}
		})
	}
}

// A frontend can be bound once, so all routes that share it are with one engine.
func TestEnginesShareNoFrontend(t *testing.T) {
	app := enginetest.NewServer(t, "v1")
	shared, apart := deploy.Key{Port: enginetest.FreePort(t)}, deploy.Key{Port: enginetest.FreePort(t)}
	route := func(app *enginetest.Server, k deploy.Key, name string) deploy.Route {
		k.ServerName = name
		return deploy.Route{
			App: "mail", Process: "web", Key: k, Options: deploy.Options{TLS: deploy.PassTLS},
			Servers: []deploy.Server{{Container: "v1", Dyno: "web.1", Addr: app.Addr, Proven: true}},
		}
	}
	inForce, other := &limited{Engine: builtin(t), nameless: []string{"special.example.com"}}, builtin(t)
	engines := &deploy.Engines{InForce: inForce, Other: other, Fallback: true, Warn: func(err error) { t.Error(err) }}
	serving := func(e deploy.Engine) (keys []deploy.Key) {
		t.Helper()
		o, err := e.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range o.Routes {
			keys = append(keys, r.Key)
		}
		return keys
	}
	rest, special, mail := route(app, shared, ""), route(app, shared, "special.example.com"), route(app, apart, "mail.example.com")
	for _, step := range []struct{ table, inForce, other []deploy.Route }{
		{[]deploy.Route{rest, mail}, []deploy.Route{rest, mail}, nil},
		{[]deploy.Route{rest, special, mail}, []deploy.Route{mail}, []deploy.Route{rest, special}},
		{[]deploy.Route{rest, mail}, []deploy.Route{rest, mail}, nil},
	} {
		if _, err := engines.Apply(t.Context(), deploy.Table{Routes: step.table}); err != nil {
			t.Fatal(err)
		}
		for e, want := range map[deploy.Engine][]deploy.Route{inForce: step.inForce, other: step.other, engines: step.table} {
			got := serving(e)
			if !slices.ContainsFunc(want, func(r deploy.Route) bool { return !slices.Contains(got, r.Key) }) && len(got) == len(want) {
				continue
			}
			t.Errorf("%d routes in the table: %T serves %v, want %d", len(step.table), e, got, len(want))
		}
	}
}
