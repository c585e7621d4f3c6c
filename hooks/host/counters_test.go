package host

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"dokku-expose/deploy"
)

// An app with many ports is read once, not once for each: that would take seconds.
func TestEachAppIsReadOnce(t *testing.T) {
	const ports = 1024
	var routes []deploy.RouteState
	for _, app := range []string{"mail", "chat"} {
		for port := range ports {
			routes = append(routes, deploy.RouteState{App: app, Key: deploy.Key{Port: uint16(port + 1)}, Servers: []deploy.ServerState{{Addr: netip.MustParseAddrPort("172.17.0.2:5025")}}})
		}
	}
	// Nobody is asked for a process type that the engine knows by itself.
	routes = append(routes, deploy.RouteState{App: "known", Process: "web", Key: deploy.Key{Port: 9999}})
	container := deploy.Endpoint{App: "mail", Dyno: "imap.1", ID: "c0ffee", Running: true, Direct: []netip.Addr{netip.MustParseAddr("172.17.0.2")}}
	reads := make(map[string]int)
	err := name(routes, []deploy.Endpoint{container}, func(app string) (map[deploy.Key]string, error) {
		reads[app]++
		types := make(map[deploy.Key]string)
		for port := range ports {
			types[deploy.Key{Port: uint16(port + 1)}] = app + "-process"
		}
		return types, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(reads) != "map[chat:1 mail:1]" {
		t.Errorf("apps were read %v times", reads)
	}
	for _, r := range routes[:2*ports] {
		if r.Process != r.App+"-process" {
			t.Fatalf("port %s of %s leads to %q", r.Key, r.App, r.Process)
		}
		if named := r.Servers[0].Dyno == "imap.1"; named != (r.App == "mail") {
			t.Fatalf("%+v", r)
		}
	}
	wrong := errors.New("unreadable")
	err = name([]deploy.RouteState{{App: "mail", Key: deploy.Key{Port: 1}}}, nil, func(string) (map[deploy.Key]string, error) { return nil, wrong })
	if !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
}
