package deploy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// scene is a host with containers that have addresses of their own.
type scene struct {
	containers []Endpoint
	listening  []netip.AddrPort
	serving    map[Key]RouteState
}

const (
	// lostSource is one that can't be asked.
	lostSource = "lost"

	imageA = "sha256:a"
	imageB = "sha256:b"
)

// container adds a running container "mail-1" of app mail, at the n-th address, which listens on ports.
func (s *scene) container(id, image, dyno string, n byte, ports ...uint16) {
	app, _, _ := strings.Cut(id, "-")
	ip := netip.AddrFrom4([4]byte{127, 9, 0, n})
	for _, port := range ports {
		s.listening = append(s.listening, netip.AddrPortFrom(ip, port))
	}
	process, _, _ := strings.Cut(dyno, ".")
	s.containers = append(s.containers, Endpoint{
		ID: id, App: app, Process: process, Dyno: dyno, Image: image, Running: true, State: "running", Direct: []netip.Addr{ip},
	})
}

// told is what the only source has just told.
func told(endpoints ...Endpoint) map[string]Listing {
	return map[string]Listing{"": {endpoints, Fresh}}
}

func (s *scene) snapshot(apps ...App) Snapshot {
	sources := told(s.containers...)
	for _, a := range apps {
		if a.Left != "" && a.Left != lostSource {
			sources[a.Left] = Listing{nil, Fresh}
		}
	}
	return Snapshot{Apps: apps, Sources: sources, Serving: s.serving}
}

// plan is what is planned once all addresses that it depends on have been asked.
func (s *scene) plan(apps ...App) (Table, []*Problem) { return s.planned(s.snapshot(apps...)) }

func (s *scene) planned(snap Snapshot) (Table, []*Problem) {
	ev := make(Evidence)
	for {
		p := Plan(snap, ev)
		if len(p.Ask) == 0 {
			return p.Table, p.Problems
		}
		for _, t := range p.Ask {
			ev[t.Address()] = nil
			if !slices.Contains(s.listening, t.Addr) {
				ev[t.Address()] = syscall.ECONNREFUSED
			}
		}
	}
}

// expect tells where the plan has other lines than want, or other problems than those that say problems.
func (s *scene) expect(t *testing.T, want, problems []string, apps ...App) {
	t.Helper()
	table, found := s.plan(apps...)
	if got := lines(table); !slices.Equal(got, want) {
		t.Errorf("table:\n got %q\nwant %q", got, want)
	}
	if len(found) != len(problems) {
		t.Errorf("problems: got %v, want %d", found, len(problems))
	}
	for i, want := range problems {
		if i < len(found) && !strings.Contains(found[i].Error(), want) {
			t.Errorf("problem %d: %q does not say %q", i, found[i], want)
		}
	}
}

// onHostNetwork adds a running container without an address of its own.
func (s *scene) onHostNetwork(id, dyno string) {
	app, _, _ := strings.Cut(id, "-")
	process, _, _ := strings.Cut(dyno, ".")
	s.containers = append(s.containers, Endpoint{
		ID: id, App: app, Process: process, Dyno: dyno, Image: imageA, Running: true, State: "running", NetworkMode: "host", HostNetwork: true,
	})
}

func (s *scene) serves(listen uint16, app string, addrs ...string) {
	service := RouteState{App: app, Key: Key{Port: listen}, Listening: true}
	for _, a := range addrs {
		service.Servers = append(service.Servers, up(netip.MustParseAddrPort(a))...)
	}
	if s.serving == nil {
		s.serving = make(map[Key]RouteState)
	}
	s.serving[Key{Port: listen}] = service
}

// up are servers that an engine gives connections to, down others that a route of its leads to.
func up(addrs ...netip.AddrPort) []ServerState   { return states(true, addrs) }
func down(addrs ...netip.AddrPort) []ServerState { return states(false, addrs) }

func states(up bool, addrs []netip.AddrPort) (list []ServerState) {
	for _, addr := range addrs {
		list = append(list, ServerState{Addr: addr, Up: up})
	}
	return list
}

func (s *scene) stop(id string) {
	for i := range s.containers {
		if s.containers[i].ID == id {
			s.containers[i].Running, s.containers[i].State, s.containers[i].Direct = false, "exited", nil
		}
	}
}

func claim(app string, public, private uint16, process string) Claim {
	return Claim{App: app, Key: Key{Port: public}, Private: private, Process: process, File: "PORTS", Line: 1}
}

func place(dyno, id string) Place {
	process, _, _ := strings.Cut(dyno, ".")
	return Place{Process: process, Dyno: dyno, Container: id}
}

// mail is an app with one port, image A in force, and its places.
func mail(places ...Place) App {
	return App{
		Name: "mail", Current: imageA, Places: places,
		Images: map[string][]Claim{
			imageA: {claim("mail", 25, 15025, "web")},
			imageB: {claim("mail", 25, 16025, "web"), claim("mail", 26, 16026, "web")},
		},
	}
}

// lines writes a table shortly: "25 mail: web.1=mail-1@15025 web.2=mail-2@15025?" where ? stands for unproven, and former servers are in
// brackets.
func lines(t Table) []string {
	var out []string
	for _, r := range t.Routes {
		line := fmt.Sprintf("%s %s:", r.Key, r.App)
		for _, s := range r.Servers {
			line += fmt.Sprintf(" %s=%s@%d", s.Dyno, s.Container, s.Addr.Port())
			if !s.Proven {
				line += "?"
			}
		}
		for _, s := range r.Former {
			line += fmt.Sprintf(" (%s=%s@%d)", s.Dyno, s.Container, s.Addr.Port())
		}
		out = append(out, line)
	}
	return out
}
