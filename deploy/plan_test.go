package deploy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// Of a source that can't be asked only those addresses are closed that certainly nobody asks for any more.
func TestUnasked(t *testing.T) {
	claim := func(ports ...uint16) []Claim {
		var claims []Claim
		for _, port := range ports {
			claims = append(claims, Claim{App: "mail", Key: Key{Port: port}})
		}
		return claims
	}
	for _, tt := range []struct {
		name string
		app  App
		want []uint16 // of the ports 1 to 6
	}{
		{"an app that is gone", App{Name: "other"}, []uint16{1, 2, 3, 4, 5, 6}},
		{"one that is disabled", App{Name: "mail", Off: "disabled", Operator: claim(1, 2)}, []uint16{1, 2, 3, 4, 5, 6}},
		{"one that can't be read", App{Name: "mail", Err: errors.New("broken")}, nil},
		{"one that can't be read and is stopped", App{Name: "mail", Err: errors.New("broken"), Off: "stopped"}, []uint16{1, 2, 3, 4, 5, 6}},
		{"claims of an operator, of any image, and of a deploy", App{
			Name: "mail", Operator: claim(1), Current: "new", Images: map[string][]Claim{"old": claim(2), "new": claim(3, 4)},
			Deploying: &Deployment{Pending: claim(5)},
		}, []uint16{6}},
	} {
		s := new(scene)
		got := []uint16{1, 2, 3, 4, 5, 6}
		for _, port := range got {
			s.serves(port, "mail", "127.9.0.1:15025")
		}
		apps := []App{{Name: "news", Operator: claim(6)}, tt.app}
		for _, r := range Plan(Snapshot{Apps: apps, Serving: s.serving}, nil).Table.Routes {
			got = slices.DeleteFunc(got, func(port uint16) bool { return port == r.Key.Port })
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v are closed, want %v", tt.name, got, tt.want)
		}
	}
}

// Routes that stay are as they were served, even if the settings say something else by now.
func TestWithoutGoneLeavesTheRest(t *testing.T) {
	good, bad := netip.MustParseAddrPort("172.17.0.2:5025"), netip.MustParseAddrPort("172.17.0.3:5025")
	options := Options{Rate: 7}
	serving := map[Key]RouteState{
		{Port: 25}: {App: "mail", Process: "web", Servers: slices.Concat(up(good), down(bad)), Options: options},
		{Port: 26}: {App: "mail", Process: "web", Servers: up(good)},
		{Port: 27}: {App: "mail", Process: "web", Servers: up(good), Options: Options{Check: NoCheck}},
	}
	apps := []App{{
		Name: "mail", Hold: time.Second, HealthCheck: 2 * time.Second, CutOld: 3 * time.Second, HalfClosed: 4 * time.Second,
		Options: Options{Rate: 99},
	}}
	snap := Snapshot{Apps: apps, Serving: serving}
	table := Without(snap, func(app string, f Key) bool { return app == "mail" && f.Port == 26 })
	if table == nil {
		t.Fatal("nothing is closed")
	}
	want := Table{Routes: []Route{{
		App: "mail", Process: "web", Key: Key{Port: 25}, Options: options,
		Servers: []Server{{Addr: good}, {Addr: bad}},
		Hold:    time.Second, HealthCheck: 2 * time.Second, CutOld: 3 * time.Second, HalfClosed: 4 * time.Second,
	}, {
		App: "mail", Process: "web", Key: Key{Port: 27}, Options: Options{Check: NoCheck},
		Servers: []Server{{Addr: good}},
		Hold:    time.Second, CutOld: 3 * time.Second, HalfClosed: 4 * time.Second,
	}}}
	if fmt.Sprintf("%+v", *table) != fmt.Sprintf("%+v", want) {
		t.Errorf("it is\n%+v\nwant\n%+v", *table, want)
	}
	for _, other := range []Key{{Port: 80}, {Proto: UDP, Port: 26}} {
		if table := Without(snap, func(_ string, f Key) bool { return f == other }); table != nil {
			t.Errorf("%s is not served, and there is something to do: %+v", other, table)
		}
	}
}

// The clients that may connect have nothing to do with Docker.
func TestOptionsAreResetWithoutContainers(t *testing.T) {
	s := new(scene)
	s.serves(25, "mail", "127.9.0.1:15025")
	s.serves(26, "news", "127.9.0.2:15025")
	a := mail(place("web.1", "mail-1"))
	a.Options = options(t, "allow=192.0.2.1")
	broken := App{Name: "news", Err: errors.New("broken"), Options: a.Options}
	snap := Snapshot{Apps: []App{a, broken}, Serving: s.serving}
	table := Plan(snap, nil).Table
	if len(table.Routes) != 2 || table.Routes[0].Options.Allow != a.Options.Allow || table.Routes[1].Options != (Options{}) {
		t.Fatalf("%+v", table)
	}
	for _, r := range table.Routes {
		service := snap.Serving[r.Key]
		service.Options = r.Options
		snap.Serving[r.Key] = service
		if len(r.Servers) != 1 || r.Servers[0].Addr != service.Servers[0].Addr {
			t.Errorf("%+v", r)
		}
	}
	if again := Plan(snap, nil).Table; !slices.Equal(lines(again), lines(table)) {
		t.Errorf("once more: %+v", again)
	}
}

// A snapshot that is not fresh may only take away.
func TestReduce(t *testing.T) {
	const one, two, three = "127.9.0.1:15025", "127.9.0.2:15025", "127.9.0.3:15025"
	at := func(addrs ...string) (list []Address) {
		for _, addr := range addrs {
			list = append(list, Address{AddrPort: netip.MustParseAddrPort(addr)})
		}
		return list
	}
	for _, tt := range []struct {
		name   string
		trust  Trust
		serves []string // by port 25 of mail; nil when the engine serves nothing
		loss   Loss
		want   []string // nil when nothing is to change
	}{
		{"stale: nothing is gone", Stale, []string{one, two, three}, Loss{}, nil},
		{"stale: one is gone, and nobody stands behind another", Stale, []string{one, two, three}, Loss{Gone: at(one)}, []string{"25 mail: web.2=mail-2@15025?"}},
		{"stale: all are gone, and connections are held", Stale, []string{one, two}, Loss{Gone: at(one, two)}, []string{"25 mail:"}},
		{"stale: a container has died", Stale, []string{one, two}, Loss{Died: []string{"mail-1"}}, []string{"25 mail: web.2=mail-2@15025?"}},
		{"stale: one has died that serves nothing", Stale, []string{one, two}, Loss{Died: []string{"mail-9"}}, nil},
		{"stale: one has died, of containers that are out of date", Stale, []string{one, three}, Loss{Died: []string{"mail-1"}}, nil},
		{"none: what is not gone stays, whosever it is", None, []string{one, three}, Loss{Gone: at(one)}, []string{"25 mail: =@15025?"}},
		{"none: an engine that serves nothing holds connections", None, nil, Loss{}, []string{"25 mail:"}},
		{"fresh: whatever no container stands behind goes", Fresh, []string{one, three}, Loss{}, []string{"25 mail: web.1=mail-1@15025?"}},
		{"fresh: containers stand behind all", Fresh, []string{one}, Loss{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := new(scene)
			s.container("mail-1", imageA, "web.1", 1)
			s.container("mail-2", imageA, "web.2", 2)
			if tt.serves != nil {
				s.serves(25, "mail", tt.serves...)
			}
			snap := s.snapshot(mail(place("web.1", "mail-1"), place("web.2", "mail-2")))
			snap.Sources[""] = Listing{s.containers, tt.trust}
			if tt.trust == None {
				snap.Sources = nil
			}
			table := Reduce(snap, tt.loss)
			switch {
			case table == nil && tt.want != nil, table != nil && tt.want == nil:
				t.Errorf("%v, want %q", table, tt.want)
			case table != nil && !slices.Equal(lines(*table), tt.want):
				t.Errorf("%q, want %q", lines(*table), tt.want)
			}
		})
	}
}

// The apps of one source are served as ever while another one can't be asked, and those of the other lose and gain nothing.
func TestSourcesAreTrustedEachForItself(t *testing.T) {
	const one, two, three = "127.9.0.1:15025", "127.9.0.2:15025", "127.9.0.3:15025"
	news := App{
		Name: "news", Source: "other", Current: imageA, Images: map[string][]Claim{imageA: {claim("news", 119, 15025, "web")}},
		Places: []Place{place("web.1", "news-3")},
	}
	for _, tt := range []struct {
		name   string
		other  Trust
		serves func(s *scene)
		want   []string
	}{
		{"fresh, both are switched", Fresh, func(s *scene) { s.serves(25, "mail", two); s.serves(119, "news", two) },
			[]string{"25 mail: web.1=mail-1@15025", "119 news: web.1=news-3@15025"}},
		{"none, the other is left as it is", None, func(s *scene) { s.serves(25, "mail", two); s.serves(119, "news", two) },
			[]string{"25 mail: web.1=mail-1@15025", "119 news: =@15025?"}},
		{"none, and a port that is not served stays closed", None, func(s *scene) { s.serves(25, "mail", one) },
			[]string{"25 mail: web.1=mail-1@15025?"}},
		{"none, and an engine that has just started holds connections", None, func(*scene) {},
			[]string{"25 mail: web.1=mail-1@15025", "119 news:"}},
		{"stale, the other keeps what is its own", Stale, func(s *scene) { s.serves(119, "news", two, three) },
			[]string{"25 mail: web.1=mail-1@15025", "119 news: web.1=news-3@15025?"}},
		{"stale, a port that is not served stays closed", Stale, func(*scene) {}, []string{"25 mail: web.1=mail-1@15025"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := new(scene)
			s.container("mail-1", imageA, "web.1", 1, 15025)
			s.container("news-3", imageA, "web.1", 3, 15025)
			tt.serves(s)
			snap := s.snapshot(mail(place("web.1", "mail-1")), news)
			snap.Sources = map[string]Listing{"": {s.containers[:1], Fresh}}
			if tt.other != None {
				snap.Sources["other"] = Listing{s.containers[1:], tt.other}
			}
			if table, _ := s.planned(snap); !slices.Equal(lines(table), tt.want) {
				t.Errorf("%q, want %q", lines(table), tt.want)
			}
		})
	}
}

// A port that an app has in force is not given to another one while its own source can't be asked.
func TestNobodyTakesThePortOfALostSource(t *testing.T) {
	s := new(scene)
	s.container("mail-1", imageA, "web.1", 1, 15025)
	s.serves(26, "mail", "127.9.0.1:15025")
	news := App{
		Name: "news", Source: "other", Current: imageA, Images: map[string][]Claim{imageA: {claim("news", 25, 15025, "web")}},
		Places: []Place{place("web.1", "news-3")},
	}
	table, problems := s.planned(s.snapshot(mail(place("web.1", "mail-1")), news))
	if len(table.Routes) != 0 || len(problems) != 1 {
		t.Errorf("%q, %v", lines(table), problems)
	}
}
