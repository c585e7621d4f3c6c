package command

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/internal/netns"
)

// A lack of local ports is told as this host's, before there are none left, and of that server only.
func TestPortLacks(t *testing.T) {
	const ports = 8
	if !netns.Alone(t, ports) {
		return
	}
	var routes []deploy.Route
	for i, app := range []string{"mail", "chat"} {
		ln, err := net.Listen("tcp", "127.0.0.1:"+[]string{"5025", "5026"}[i])
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		addr := netip.MustParseAddrPort(ln.Addr().String())
		routes = append(routes, deploy.Route{
			App: app, Process: "web", Key: deploy.Key{Port: uint16(25 + i)},
			Servers: []deploy.Server{{Container: app, Dyno: "web.1", Addr: addr, Proven: true}},
		})
	}
	told := func() string {
		t.Helper()
		// The engine or a hook has met the same lack.
		met := &deploy.Problem{App: "mail", Key: routes[0].Key, Err: deploy.ErrHostLack}
		problems, err := host.WithPortLacks([]*deploy.Problem{met}, routes)
		if err != nil {
			t.Fatal(err)
		}
		if len(problems) != 1 {
			t.Fatalf("got %v, want one problem", problems)
		}
		return problems[0].Error()
	}
	for _, row := range []struct {
		connections int
		want        []string
	}{
		{ports/2 - 1, []string{deploy.ErrHostLack.Error()}},
		{1, []string{"mail: public port 25: at least half of the 8 local ports", "web.1 (mail) at 127.0.0.1:5025", "dokku ps:scale mail web=2", "ip_local_port_range"}},
		{ports / 2, []string{"mail: public port 25: this host has no local port left", "all 8 are in use", "the container is not at fault", "dokku ps:scale mail web=2"}},
	} {
		for range row.connections {
			conn, err := net.Dial("tcp", "127.0.0.1:5025")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		text := told()
		for _, want := range row.want {
			if !strings.Contains(text, want) {
				t.Errorf("%q is missing in: %s", want, text)
			}
		}
	}
	// The list says it, whether the engine takes the container for up or for down.
	for _, up := range []bool{true, false} {
		service := deploy.RouteState{App: "mail", Servers: []deploy.ServerState{{Addr: routes[0].Servers[0].Addr, Up: up}}}
		v := view{serving: map[deploy.Key]deploy.RouteState{routes[0].Key: service}}
		if err := v.countPorts(); err != nil {
			t.Fatal(err)
		}
		mapping, err := parseMappings([]string{"25:5025"})
		if err != nil {
			t.Fatal(err)
		}
		if e := v.exposed(deploy.App{Name: "mail"}, mapping[0], ""); e.State != "no local ports" {
			t.Errorf("%+v: the state is %s", service, e.State)
		}
	}
}
