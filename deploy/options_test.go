package deploy

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dokku-expose/portsfile"
)

func options(t *testing.T, text string) Options {
	t.Helper()
	o, err := ParseOptions(text)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		name string
		// set is what an operator has set, asked what the mapping says; pushed and added are what comes of it when the mapping is
		// one of a PORTS file, and one of `expose:add`.
		set, asked, pushed, added string
		// refused is the setting beside which a push of it would get nothing.
		refused string
	}{
		{name: "nothing"},
		{
			name:   "the settings go where the mapping says nothing",
			set:    "allow=10.0.0.0/8 proxy-protocol=v1 accept-proxy=10.0.0.1 max-connections=7 rate=3/10s idle-timeout=1m balance=source check=off",
			pushed: "allow=10.0.0.0/8 proxy-protocol=v1 accept-proxy=10.0.0.1 max-connections=7 rate=3/10s idle-timeout=1m balance=source check=off",
			added:  "allow=10.0.0.0/8 proxy-protocol=v1 accept-proxy=10.0.0.1 max-connections=7 rate=3/10s idle-timeout=1m balance=source check=off",
		},
		{
			name:   "the mapping goes where nothing is set",
			asked:  "allow=10.0.0.0/8 proxy-protocol=v1 accept-proxy=10.0.0.1 max-connections=7 rate=3/10s idle-timeout=1m balance=source check=off",
			pushed: "allow=10.0.0.0/8 proxy-protocol=v1 accept-proxy=10.0.0.1 max-connections=7 rate=3/10s idle-timeout=1m balance=source check=off",
			added:  "allow=10.0.0.0/8 proxy-protocol=v1 accept-proxy=10.0.0.1 max-connections=7 rate=3/10s idle-timeout=1m balance=source check=off",
		},
		{
			name: "what is the app's own business", set: "proxy-protocol=v1 balance=source check=connect", asked: "proxy-protocol=v2 balance=roundrobin check=off",
			pushed: "proxy-protocol=v2 balance=roundrobin check=off", added: "proxy-protocol=v2 balance=roundrobin check=off",
		},
		{name: "back to the defaults", set: "proxy-protocol=v1 balance=source check=off", asked: "proxy-protocol=off balance=leastconn accept-proxy=none check=connect"},
		{
			name: "stricter", set: "allow=10.0.0.0/8,192.0.2.0/24 max-connections=7 rate=3/10s idle-timeout=1m",
			asked:  "allow=10.1.0.0/16 max-connections=6 rate=2/10s idle-timeout=1s",
			pushed: "allow=10.1.0.0/16 max-connections=6 rate=2/10s idle-timeout=1s", added: "allow=10.1.0.0/16 max-connections=6 rate=2/10s idle-timeout=1s",
		},
		{
			name: "more clients", set: "allow=10.0.0.0/8", asked: "allow=0.0.0.0/0,::/0",
			pushed: "allow=10.0.0.0/8", added: "allow=0.0.0.0/0,::/0",
		},
		{
			name: "clients of the other family", set: "allow=0.0.0.0/0", asked: "allow=10.0.0.0/8,::/0",
			pushed: "allow=10.0.0.0/8", added: "allow=10.0.0.0/8,::/0",
		},
		{
			name: "other clients", set: "allow=10.0.0.0/8", asked: "allow=192.0.2.1",
			pushed: "allow=none", added: "allow=192.0.2.1", refused: "allow",
		},
		{
			name: "networks that overlap", set: "allow=10.0.0.0/9,10.0.0.0/16,2001:db8::/32", asked: "allow=10.0.0.0/8,10.0.0.0/24,::1,2001:db8:1::/48",
			pushed: "allow=10.0.0.0/9,10.0.0.0/16,10.0.0.0/24,2001:db8:1::/48", added: "allow=10.0.0.0/8,10.0.0.0/24,::1,2001:db8:1::/48",
		},
		{name: "nobody", set: "allow=10.0.0.0/8", asked: "allow=none", pushed: "allow=none", added: "allow=none"},
		{name: "somebody where there is nobody", set: "allow=none", asked: "allow=10.0.0.1", pushed: "allow=none", added: "allow=10.0.0.1"},
		{name: "more connections", set: "max-connections=7", asked: "max-connections=8", pushed: "max-connections=7", added: "max-connections=8"},
		{name: "a higher rate", set: "rate=7/10s", asked: "rate=8/10s", pushed: "rate=7/10s", added: "rate=8/10s"},
		{name: "a longer idle time", set: "idle-timeout=1m", asked: "idle-timeout=61s", pushed: "idle-timeout=1m", added: "idle-timeout=1m1s"},
		{
			name: "everybody is taken at his word about his address", set: "allow=10.0.0.0/8", asked: "accept-proxy=0.0.0.0/0",
			pushed: "allow=10.0.0.0/8", added: "allow=10.0.0.0/8 accept-proxy=0.0.0.0/0", refused: "accept-proxy",
		},
		{
			name: "the same, to get around a rate", set: "rate=7/10s", asked: "accept-proxy=0.0.0.0/0",
			pushed: "rate=7/10s", added: "accept-proxy=0.0.0.0/0 rate=7/10s", refused: "accept-proxy",
		},
		{
			name: "other proxies than the operator's", set: "accept-proxy=10.0.0.1", asked: "accept-proxy=10.0.0.0/8",
			pushed: "accept-proxy=10.0.0.1", added: "accept-proxy=10.0.0.0/8",
		},
		{
			name: "none of the operator's proxies, but another one", set: "accept-proxy=10.0.0.1", asked: "accept-proxy=10.0.0.2",
			added: "accept-proxy=10.0.0.2", refused: "accept-proxy",
		},
		{
			name: "none of the operator's proxies, whose clients would all have an address that is allowed",
			set:  "allow=10.0.0.0/8 accept-proxy=10.0.0.1", asked: "accept-proxy=none",
			pushed: "allow=10.0.0.0/8 accept-proxy=10.0.0.1", added: "allow=10.0.0.0/8", refused: "accept-proxy",
		},
		{
			name: "one of the operator's proxies, so that the clients of the other have its address",
			set:  "allow=10.0.0.0/8 accept-proxy=10.0.0.1,10.0.0.2", asked: "accept-proxy=10.0.0.1",
			pushed: "allow=10.0.0.0/8 accept-proxy=10.0.0.1,10.0.0.2", added: "allow=10.0.0.0/8 accept-proxy=10.0.0.1", refused: "accept-proxy",
		},
		{
			name: "more than the operator's proxies, where addresses are counted",
			set:  "accept-proxy=10.0.0.1 rate=7/10s", asked: "accept-proxy=10.0.0.0/8",
			pushed: "accept-proxy=10.0.0.1 rate=7/10s", added: "accept-proxy=10.0.0.0/8 rate=7/10s", refused: "accept-proxy",
		},
		{
			name: "the operator's proxies", set: "allow=10.0.0.0/8 accept-proxy=10.0.0.1", asked: "accept-proxy=10.0.0.1",
			pushed: "allow=10.0.0.0/8 accept-proxy=10.0.0.1", added: "allow=10.0.0.0/8 accept-proxy=10.0.0.1",
		},
		{name: "fewer proxies, where no address decides", set: "accept-proxy=10.0.0.1,10.0.0.2", asked: "accept-proxy=10.0.0.1", pushed: "accept-proxy=10.0.0.1", added: "accept-proxy=10.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set, c := options(t, tt.set), Claim{App: "mail", Key: Key{Port: 25}, Options: options(t, tt.asked)}
			if got := c.options(set).String(); got != tt.added {
				t.Errorf("of expose:add: %q, want %q", got, tt.added)
			}
			policy := Policy{Allowed: []portsfile.Range{{First: 1, Last: 65535}}, Max: 1, Options: set}
			if refusals := policy.Check("mail", []Claim{c}); len(refusals) > 0 {
				t.Errorf("of expose:add: %v", refusals)
			}

			c.File, c.Line = "PORTS", 1
			if got := c.options(set).String(); got != tt.pushed {
				t.Errorf("of a push: %q, want %q", got, tt.pushed)
			}
			refusals := policy.Check("mail", []Claim{c})
			switch {
			case tt.refused == "" && len(refusals) == 0:
			case tt.refused == "" || len(refusals) != 1 || refusals[0].Rule != tt.refused:
				t.Errorf("refused: %v, want %q", refusals, tt.refused)
			default:
				// The command is one that would allow it.
				_, command, _ := strings.Cut(refusals[0].Error(), "dokku expose:set mail ")
				key, value, _ := strings.Cut(command, " ")
				others := slices.DeleteFunc(strings.Fields(tt.set), func(o string) bool { return strings.HasPrefix(o, key+"=") })
				policy.Options = options(t, strings.Join(append(others, key+"="+value), " "))
				if refusals := policy.Check("mail", []Claim{c}); len(refusals) > 0 {
					t.Errorf("after %q: %v", command, refusals)
				}
			}
		})
	}
}

func TestBuildNamesThoseThatShutEverybodyOut(t *testing.T) {
	s := new(scene)
	s.container("mail-1", imageA, "web.1", 1, 15025)
	asked := claim("mail", 25, 15025, "web")
	asked.File, asked.Line, asked.Options = "PORTS", 3, options(t, "allow=192.0.2.1")
	a := App{Name: "mail", Current: imageA, Images: map[string][]Claim{imageA: {asked}}, Places: []Place{place("web.1", "mail-1")}, Options: options(t, "allow=10.0.0.0/8")}
	table, problems := s.plan(a)
	if len(table.Routes) != 1 || table.Routes[0].Options.Allow != NetworksOf() {
		t.Errorf("routes %+v, want one that lets nobody in", table.Routes)
	}
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), "PORTS line 3") || !strings.Contains(problems[0].Error(), "10.0.0.0/8") {
		t.Errorf("problems %v, want one that names both sides", problems)
	}
}

// What an app allows is not known while its settings can't be read: its ports must not open for that.
func TestBrokenAppKeepsItsOptions(t *testing.T) {
	s := new(scene)
	s.container("mail-1", imageA, "web.1", 1, 15025)
	s.serves(25, "mail", "127.9.0.1:15025")
	service := s.serving[Key{Port: 25}]
	service.Options, service.ClientCA = options(t, "allow=192.0.2.1 rate=5/10s tls=terminate"), "PEM"
	s.serving[Key{Port: 25}] = service
	a := App{Name: "mail", Err: fmt.Errorf("mail.toml:1: broken"), Options: options(t, "allow=0.0.0.0/0")}
	table, _ := s.plan(a)
	for _, table := range []Table{table, confirmed(s.snapshot(a))} {
		if len(table.Routes) != 1 || table.Routes[0].Options != service.Options || table.Routes[0].ClientCA != service.ClientCA {
			t.Errorf("routes %+v, want one with %q, and the clients' certificates", table.Routes, service.Options)
		}
	}
}

func TestTableSurvivesJSON(t *testing.T) {
	table := Table{Routes: []Route{
		{App: "mail", Key: Key{Port: 25}, Hold: time.Second},
		{App: "db", Key: Key{Port: 26}, Options: options(t, "allow=10.0.0.0/8,::1 proxy-protocol=v1 accept-proxy=none max-connections=7 rate=3/10s idle-timeout=1.5s balance=source check=off")},
	}}
	encoded, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	var decoded Table
	if err := json.Unmarshal(encoded, &decoded); err != nil || !reflect.DeepEqual(decoded, table) {
		t.Errorf("%s becomes %+v, %v", encoded, decoded, err)
	}
}
