package deploy

import (
	"errors"
	"strings"
	"testing"

	"dokku-expose/portsfile"
)

func TestAdmit(t *testing.T) {
	ask := func(ports ...uint16) (claims []Claim) {
		for _, port := range ports {
			claims = append(claims, claim("mail", port, 5025, "web"))
		}
		return claims
	}
	news := App{Name: "news", Operator: []Claim{{App: "news", Key: Key{Port: 119}}}}
	reason := errors.New("news.toml:1: broken")
	broken := App{Name: "news", Err: reason}
	busy := func(port uint16, listens bool) []Occupied {
		return []Occupied{{
			Conflicts: func(l Frontend) bool { return l.Port == port }, Listens: listens,
			Reason: func(Claim) error { return errors.New("somebody has it") },
		}}
	}
	for _, tt := range []struct {
		name string
		r    Request
		want []string // one line each, "" for none
	}{
		{"nothing speaks against it", Request{Claims: ask(25), Apps: []App{news}}, nil},
		{"another app has it", Request{Claims: ask(25, 119), Apps: []App{news}}, []string{"public port 119 (PORTS line 1) belongs to the app news"}},
		{"its own ports are no conflict", Request{Claims: ask(25), Apps: []App{{Name: "mail", Operator: ask(25)}}}, nil},
		{"the policy", Request{Claims: ask(25), Policy: Policy{Reserved: []portsfile.Range{{First: 25, Last: 25}}}}, []string{"reserved-ports"}},
		{"all of it, in the order of the ports", Request{Claims: ask(9000, 119, 80), Apps: []App{news}, Occupied: busy(9000, true), Impossible: map[Key]error{{Port: 80}: errors.New("not here")}},
			[]string{"public port 80 (PORTS line 1): not here", "public port 119", "public port 9000 (PORTS line 1): somebody has it"}},
		{"one reason for a port is enough", Request{Claims: ask(119), Apps: []App{news}, Occupied: busy(119, true)}, []string{"belongs to the app news"}},
		{"a socket at an address that is served is the engine's", Request{Claims: ask(25), Serving: map[Key]RouteState{{Port: 25}: {App: "mail"}}, Occupied: busy(25, true)}, nil},
		{"a proxy that wants an address that is served", Request{Claims: ask(25), Serving: map[Key]RouteState{{Port: 25}: {App: "mail"}}, Occupied: busy(25, false)}, []string{"somebody has it"}},
		{"what is served for an app that can't be read", Request{
			Claims: ask(119), Apps: []App{broken}, Serving: map[Key]RouteState{{Port: 119}: {App: "news"}}, Unreadable: map[string]MayClaim{"news": {Known: true, Err: reason}},
		}, []string{"leads to the app news; use another port, or mend that app, which can't be asked whether it gives it up: news.toml:1: broken"}},
		{"what its files mention", Request{
			Claims: ask(25, 120), Apps: []App{broken}, Unreadable: map[string]MayClaim{"news": {Known: true, Err: reason, Ports: []portsfile.Range{{First: 119, Last: 121}}}},
		}, []string{"public port 120 (PORTS line 1) may be one of the app news"}},
		{"nothing is known of its files, and nothing is served for it", Request{Claims: ask(25), Apps: []App{broken}, Unreadable: map[string]MayClaim{"news": {Err: reason}}}, []string{"may be one of the app news"}},
		{"nothing is known of its files, but what is served for it", Request{
			Claims: ask(25), Apps: []App{broken}, Serving: map[Key]RouteState{{Port: 119}: {App: "news"}}, Unreadable: map[string]MayClaim{"news": {Err: reason}},
		}, nil},
		{"what the app has is its own all the same", Request{
			Claims: ask(25), Apps: []App{broken, {Name: "mail", Current: imageA, Images: map[string][]Claim{imageA: ask(25)}}}, Unreadable: map[string]MayClaim{"news": {Err: reason}},
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.r.App, tt.r.Policy.Max = "mail", 10
			if tt.r.Policy.Allowed == nil {
				tt.r.Policy.Allowed = []portsfile.Range{{First: 1, Last: 65535}}
			}
			var got []string
			if err := Admit(tt.r); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(tt.want) {
				t.Fatalf("%q, want %q", got, tt.want)
			}
			for i, want := range tt.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("%q, want %q in it", got[i], want)
				}
			}
		})
	}
}
