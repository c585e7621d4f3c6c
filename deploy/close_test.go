package deploy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// Without Docker only those addresses are closed that certainly nobody asks for any more.
func TestUnasked(t *testing.T) {
	claim := func(ports ...uint16) []Claim {
		var claims []Claim
		for _, port := range ports {
			claims = append(claims, Claim{App: "mail", Listen: Listen{Port: port}})
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
		gone := unasked([]App{{Name: "news", Operator: claim(6)}, tt.app})
		var got []uint16
		for port := uint16(1); port <= 6; port++ {
			if gone("mail", Listen{Port: port}) {
				got = append(got, port)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v are closed, want %v", tt.name, got, tt.want)
		}
	}
}

// What stays is as it was served, whatever the settings say by now.
func TestWithoutGoneLeavesTheRest(t *testing.T) {
	up, down := netip.MustParseAddrPort("172.17.0.2:5025"), netip.MustParseAddrPort("172.17.0.3:5025")
	options := Options{Rate: 7}
	serving := map[Listen]Service{
		{Port: 25}: {App: "mail", Process: "web", Servers: []netip.AddrPort{up}, Down: []netip.AddrPort{down}, Options: options},
		{Port: 26}: {App: "mail", Process: "web", Servers: []netip.AddrPort{up}},
		{Port: 27}: {App: "mail", Process: "web", Servers: []netip.AddrPort{up}, Options: Options{Check: NoCheck}},
	}
	apps := []App{{
		Name: "mail", Hold: time.Second, HealthCheck: 2 * time.Second, CutOld: 3 * time.Second, HalfClosed: 4 * time.Second,
		Options: Options{Rate: 99},
	}}
	table := withoutGone(apps, serving, func(app string, l Listen) bool { return l.Port == 26 })
	want := Table{Routes: []Route{{
		App: "mail", Process: "web", Listen: Listen{Port: 25}, Options: options,
		Servers: []Server{{Addr: up}, {Addr: down}},
		Hold:    time.Second, HealthCheck: 2 * time.Second, CutOld: 3 * time.Second, HalfClosed: 4 * time.Second,
	}, {
		App: "mail", Process: "web", Listen: Listen{Port: 27}, Options: Options{Check: NoCheck},
		Servers: []Server{{Addr: up}},
		Hold:    time.Second, CutOld: 3 * time.Second, HalfClosed: 4 * time.Second,
	}}}
	if fmt.Sprintf("%+v", table) != fmt.Sprintf("%+v", want) {
		t.Errorf("it is\n%+v\nwant\n%+v", table, want)
	}
}
