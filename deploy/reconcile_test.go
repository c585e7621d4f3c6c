package deploy

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

func TestSplitRouteErrors(t *testing.T) {
	taken := &RouteError{App: "mail", Key: Key{Port: 25}, Err: errors.New("taken")}
	other := &RouteError{App: "chat", Key: Key{Port: 26}, Err: errors.New("taken")}
	full := errors.New("disk full")
	down := fmt.Errorf("HAProxy is %w (%w); start it", ErrNotRunning, full)
	tests := []struct {
		name   string
		err    error
		routes int
		rest   string
	}{
		{"none", nil, 0, ""},
		{"one route", taken, 1, ""},
		{"two routes", errors.Join(taken, errors.Join(other)), 2, ""},
		{"a route and the rest", errors.Join(taken, full), 1, "disk full"},
		{"no route", full, 0, "disk full"},
		{"an error that wraps two keeps its words", down, 0, "HAProxy is not running (disk full); start it"},
		{"also beside a route", errors.Join(taken, down), 1, "HAProxy is not running (disk full); start it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			routes, rest := splitRouteErrors(tt.err)
			if len(routes) != tt.routes {
				t.Errorf("routes %v, want %d", routes, tt.routes)
			}
			if text := fmt.Sprint(rest); text != tt.rest && (rest != nil || tt.rest != "") {
				t.Errorf("rest %q, want %q", text, tt.rest)
			}
			if errors.Is(tt.err, ErrNotRunning) != errors.Is(rest, ErrNotRunning) {
				t.Error("what the rest wraps was lost")
			}
		})
	}
}

// What is gone is taken out of service before anything else is asked; where nothing is, that would be work for nothing.
func TestTableLacks(t *testing.T) {
	mail, news := Key{Port: 25}, Key{Port: 119}
	one, two := netip.MustParseAddrPort("172.17.0.2:5025"), netip.MustParseAddrPort("172.17.0.3:5025")
	table := Table{Routes: []Route{{App: "mail", Key: mail, Servers: []Server{{Addr: one}, {Addr: two}}}, {App: "news", Key: news}}}
	for _, test := range []struct {
		name    string
		serving map[Key]RouteState
		want    bool
	}{
		{"nothing is served", nil, false},
		{"the same", map[Key]RouteState{mail: {App: "mail", Servers: up(two, one)}, news: {App: "news"}}, false},
		{"less", map[Key]RouteState{mail: {App: "mail", Servers: up(one)}}, false},
		{"a server more", map[Key]RouteState{news: {App: "news", Servers: up(one)}}, true},
		{"a server more that is down", map[Key]RouteState{news: {App: "news", Servers: down(one)}}, true},
		{"one that is down", map[Key]RouteState{mail: {App: "mail", Servers: down(one)}}, false},
		{"a port more", map[Key]RouteState{{Port: 80}: {App: "mail"}}, true},
		{"another app's", map[Key]RouteState{mail: {App: "news"}}, true},
		{"more ports", map[Key]RouteState{mail: {App: "mail"}, news: {App: "news"}, {Port: 80}: {App: "mail"}}, true},
	} {
		if got := table.lacks(test.serving); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Only what is gone is taken out of service before anything else: what is merely not wanted any more closes with the next table.
func TestServesUnconfirmed(t *testing.T) {
	const one, two = "127.9.0.1:15025", "127.9.0.2:15025"
	for _, test := range []struct {
		name    string
		arrange func(s *scene)
		want    bool
	}{
		{"nothing", func(*scene) {}, false},
		{"a container of the app", func(s *scene) { s.serves(25, "mail", one) }, false},
		{"a port that nobody asks for any more", func(s *scene) { s.serves(99, "mail", one) }, false},
		{"a port without servers", func(s *scene) { s.serves(99, "mail") }, false},
		{"a container that has stopped", func(s *scene) { s.serves(25, "mail", one); s.stop("mail-1") }, true},
		{"one of two that has gone", func(s *scene) { s.serves(25, "mail", one, two) }, true},
		{"one that has gone, on a port that nobody asks for", func(s *scene) { s.serves(99, "mail", two) }, true},
		{"another app's container", func(s *scene) { s.serves(25, "news", one) }, true},
		{"one of an app that is gone", func(s *scene) { s.serves(25, "gone", one) }, true},
		{"one that is down", func(s *scene) {
			s.serving = map[Key]RouteState{{Port: 25}: {App: "mail", Servers: down(netip.MustParseAddrPort(two))}}
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := new(scene)
			s.container("mail-1", imageA, "web.1", 1)
			test.arrange(s)
			apps := []App{mail(place("web.1", "mail-1")), {Name: "news"}}
			if got := newBuilder(s.snapshot(apps...), nil).servesUnconfirmed(); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}
