package haproxy_test

import (
	"bufio"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/wait"
)

// closed wants a connection to be closed at accept.
func closed(t *testing.T, l deploy.Key) {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+l.String())
	if err != nil {
		return // faster than it could be told that it was connected
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(wait.Patience)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
		t.Errorf("got %q on port %s, want a closed connection", line, l)
	}
}

// What an operator does to the networks by hand is found and put right, without a reload.
func TestNetworksChangedByHand(t *testing.T) {
	h := haproxytest.Start(t)
	v1, alpha, mail := enginetest.NewServer(t, "v1"), port(t), port(t)
	routes := []deploy.Route{route("alpha", alpha, v1), withOptions(t, route("mail", mail, v1), "allow=127.0.0.1")}
	apply(t, h, routes...)
	for _, c := range []struct {
		name, line string
		changed    func()
	}{
		{"nobody", "clear acl #1", func() { closed(t, alpha) }},
		{"somebody else", "clear acl #5; add acl #5 192.0.2.1", func() { closed(t, mail) }},
		{"everybody", "add acl #5 0.0.0.0/0; add acl #5 10.0.0.1; add acl #5 10.0.0.1", func() { answers(t, mail, "v1") }},
		{"IPv6 too", "add acl #7 ::/0", func() {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			command(t, h, c.line)
			c.changed()
			if s := status(t, h); s.Stale == "" {
				t.Error("nobody is told of it")
			}
			if applied := apply(t, h, routes...); applied.Reload != "" || len(applied.Switched) > 0 {
				t.Errorf("%+v", applied)
			}
			wantFresh(t, h)
			answers(t, alpha, "v1")
			answers(t, mail, "v1")
		})
	}
}

// An Apply that dies has written the file and told HAProxy half of it. The next one, which has connections to move and looks at no more
// than it must, finishes what was begun.
func TestNetworksAreRightAfterAnApplyThatDied(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2, v3, mail, news := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), enginetest.NewServer(t, "v3"), port(t), port(t)
	shut := func(s *enginetest.Server) []deploy.Route {
		return []deploy.Route{withOptions(t, route("mail", mail, s), "allow=192.0.2.1"), route("news", news, s)}
	}
	open := func(s *enginetest.Server) []deploy.Route {
		return []deploy.Route{withOptions(t, route("mail", mail, s), "allow=127.0.0.1"), route("news", news, s)}
	}
	apply(t, h, shut(v1)...)
	closed(t, mail)
	for _, c := range []struct {
		name, told string
	}{
		{"before it told anything", "show info"},
		{"in between", "clear acl #1000000000; add acl #1 127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := h.Engine.Prepare(t.Context(), table(open(v2)...)); err != nil {
				t.Fatal(err)
			}
			command(t, h, c.told)
			if applied := apply(t, h, open(v2)...); applied.Reload != "" {
				t.Errorf("reload: %s", applied.Reload)
			}
			answers(t, mail, "v2")
			wantFresh(t, h)
			apply(t, h, shut(v3)...)
			closed(t, mail)
			answers(t, news, "v3")
			wantFresh(t, h)
		})
	}
}

func TestOptionsSurviveARestart(t *testing.T) {
	h := haproxytest.Start(t)
	v1, mail := enginetest.NewServer(t, "v1"), port(t)
	r := withOptions(t, route("mail", mail, v1), "allow=127.0.0.1 rate=5/10s")
	apply(t, h, r)
	shut := withOptions(t, r, "allow=10.0.0.0/8 rate=5/10s")
	apply(t, h, shut)
	h.Kill()
	h.Start()
	closed(t, mail)
	if got := serving(t, h)[mail].Options; got != shut.Options {
		t.Errorf("serving %s, want %s", got, shut.Options)
	}
	// A change that got as far as the file, when the program that made it was killed.
	open := withOptions(t, r, "allow=127.0.0.0/8 rate=5/10s")
	if err := h.Engine.Prepare(t.Context(), table(open)); err != nil {
		t.Fatal(err)
	}
	closed(t, mail)
	if applied := apply(t, h, open); applied.Reload != "" {
		t.Errorf("reload: %s", applied.Reload)
	}
	answers(t, mail, "v1")
}

// Nobody may take a route to be open that is not: what runs is not what the file says.
func TestOptionsThatNobodyKnows(t *testing.T) {
	h := haproxytest.Start(t)
	mail := port(t)
	apply(t, h, withOptions(t, route("mail", mail, enginetest.NewServer(t, "v1")), "allow=127.0.0.1"))
	want := deploy.Options{Allow: deploy.NetworksOf()}
	for _, change := range []func() error{
		func() error { edit(t, h, " 127.0.0.1", " 0.0.0.0/0"); return nil },
		func() error { return os.WriteFile(h.Config.ConfigFile, []byte("# nothing\n"), 0o640) },
		func() error { return os.Remove(h.Config.ConfigFile) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if got := serving(t, h)[mail].Options; got != want {
			t.Errorf("serving %s, want %s", got, want)
		}
	}
}

func TestTotalConnections(t *testing.T) {
	h := haproxytest.Start(t, func(c *haproxy.Config) { c.TotalConnections = 2 })
	v1, mail, news := enginetest.NewServer(t, "v1"), port(t), port(t)
	apply(t, h, route("mail", mail, v1), route("news", news, v1))
	one, _ := connect(t, mail)
	connect(t, news)
	third, err := net.Dial("tcp", "127.0.0.1:"+news.String())
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	if err := third.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := third.Read(make([]byte, 1)); n > 0 || !os.IsTimeout(err) {
		t.Fatalf("got %d bytes, %v, want a wait", n, err)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if err := third.SetReadDeadline(time.Now().Add(wait.Patience)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(third).ReadString('\n'); err != nil || !strings.HasPrefix(line, "v1") {
		t.Errorf("got %q, %v", line, err)
	}
}

// A number that the limit of open files does not allow must not keep HAProxy from starting.
func TestMoreTotalConnectionsThanFiles(t *testing.T) {
	h := haproxytest.Start(t, func(c *haproxy.Config) { c.TotalConnections = deploy.MaxMaxConnections })
	mail := port(t)
	apply(t, h, route("mail", mail, enginetest.NewServer(t, "v1")))
	answers(t, mail, "v1")
}

// A setting and a PORTS file can have more networks in common than one option may name. They are obeyed, and other routes see
// nothing of it.
func TestMoreNetworksThanOneOptionMayName(t *testing.T) {
	h := haproxytest.Start(t)
	v1 := enginetest.NewServer(t, "v1")
	var networks []netip.Prefix
	for i := range 2*deploy.MaxNetworks - 2 {
		networks = append(networks, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24))
	}
	many := route("many", port(t), v1)
	many.Options.Allow = deploy.NetworksOf(networks...)
	mail := route("mail", port(t), v1)
	apply(t, h, many, mail)
	closed(t, many.Key)
	if got := serving(t, h)[mail.Key]; got.App != "mail" || len(got.Servers) != 1 {
		t.Errorf("mail is served as %+v", got)
	}
	if got := serving(t, h)[many.Key].Options; got != many.Options {
		t.Errorf("many is served with %s, want %s", got, many.Options)
	}
	many.Options.Allow = deploy.NetworksOf(append(networks, netip.MustParsePrefix("127.0.0.0/8"))...)
	apply(t, h, many, mail)
	conn, err := net.Dial("tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), many.Key.Port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, "v1 ") {
		t.Errorf("got %q, %v", line, err)
	}
}
