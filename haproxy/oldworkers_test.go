package haproxy_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
)

func TestOldConnections(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2 := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2")
	mail, news, down := route("mail", port(t), v1), route("news", port(t), v1, v2), route("down", port(t))
	apply(t, h, mail, news, down)
	if old := oldConnections(t, h); len(old) > 0 {
		t.Errorf("no worker is old, and %v are on one", old)
	}
	one, _ := connect(t, mail.Listen)
	for range 2 {
		connect(t, news.Listen)
	}
	open(t, down.Listen)
	worker := status(t, h).Worker
	apply(t, h, mail, news, down, route("chat", port(t)))
	want := []haproxy.OldConnections{
		{Worker: worker, App: "mail", Listen: mail.Listen, Server: v1.Addr, Connections: 1},
		{Worker: worker, App: "news", Listen: news.Listen, Server: v1.Addr, Connections: 1},
		{Worker: worker, App: "news", Listen: news.Listen, Server: v2.Addr, Connections: 1},
	}
	if want[1].Server.Compare(want[2].Server) > 0 {
		want[1], want[2] = want[2], want[1]
	}
	if old := oldConnections(t, h); !slices.Equal(old, want) {
		t.Errorf("got %+v, want %+v", old, want)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection that has ended is not counted", func() bool { return slices.Equal(oldConnections(t, h), want[1:]) })
	h.Stop()
	if old := oldConnections(t, h); len(old) > 0 {
		t.Errorf("HAProxy does not run, and %v are on an old worker", old)
	}
}

// An old worker must not try a server that the table no longer names: another app may have got its address.
func TestOldWorkersLeadNobodyToAnotherApp(t *testing.T) {
	h := haproxytest.Start(t)
	// Without checks the worker does not find out by itself that nobody is there.
	gone, v2 := enginetest.Reserve(t, "gone"), enginetest.NewServer(t, "v2")
	mail, other := route("mail", port(t), gone), route("other", port(t), gone)
	mail.HealthCheck, other.HealthCheck = 0, 0
	mail.Hold, other.Hold = time.Minute, time.Minute
	apply(t, h, mail, other)
	trying, alsoTrying := open(t, mail.Listen), open(t, other.Listen)
	apply(t, h, mail, other, route("news", port(t)))

	mail.Servers = route("mail", mail.Listen, v2).Servers
	apply(t, h, mail, other, route("news", port(t)))
	gone.Listen()
	if n, err := trying.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes, %v; want the connection closed", n, err)
	}
	if got := firstLine(t, alsoTrying); got != fmt.Sprintf("gone gone %d\n", gone.Addr.Port()) {
		t.Errorf("%q greets on the route that has the server still", got)
	}
	answers(t, mail.Listen, "v2")
}

func oldConnections(t *testing.T, h *haproxytest.HAProxy) []haproxy.OldConnections {
	t.Helper()
	old, err := h.Engine.OldConnections(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return old
}
