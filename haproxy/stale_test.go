package haproxy_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
)

// A server that is gone is taken out though the configuration can't be written: its address may be another app's next. One
// that another server is to replace stays until that can be done.
func TestServerThatIsGoneLeavesWithoutTheFile(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2, mail, chat, idle := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), port(t), port(t), port(t)
	apply(t, h, route("mail", mail, v1), route("chat", chat, v1), route("idle", idle, v1))
	nowhere := h.Config
	nowhere.ConfigFile = filepath.Join(t.TempDir(), "missing", "haproxy.cfg")
	if _, err := haproxy.New(nowhere).Apply(t.Context(), table(route("mail", mail), route("chat", chat, v2))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want an error that tells of the file", err)
	}
	serving := serving(t, h)
	for listen, want := range map[deploy.Key]int{mail: 0, chat: 1, idle: 0} {
		if service, listens := serving[listen]; !listens || len(service.Servers) != want {
			t.Errorf("public port %s leads to %v, want %d servers", listen, service.Servers, want)
		}
	}
	answers(t, chat, "v1")
	apply(t, h, route("mail", mail, v1), route("chat", chat, v2))
	answers(t, mail, "v1")
	answers(t, chat, "v2")
}

func TestDisarmedStartHoldsConnections(t *testing.T) {
	h := haproxytest.Start(t)
	v1, mail := enginetest.NewServer(t, "v1"), port(t)
	r := withOptions(t, route("mail", mail, v1), "allow=127.0.0.1 rate=500/10s")
	apply(t, h, r)
	for range 2 { // while it runs there is nothing to be done
		if err := h.Engine.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantFresh(t, h)
	}
	h.Stop()
	for range 2 {
		if err := h.Engine.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	h.Start()
	wantFresh(t, h)
	wantOptions(t, h, r)
	if service, listens := serving(t, h)[mail]; !listens || len(service.Servers) > 0 {
		t.Errorf("serving %v, %v; want the port without a server", service, listens)
	}
	if applied := apply(t, h, r); applied.Reload != "" {
		t.Errorf("reload: %s", applied.Reload)
	}
	answers(t, mail, "v1")
	wantFresh(t, h)
}
