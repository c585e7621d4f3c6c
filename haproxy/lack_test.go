package haproxy_test

import (
	"net"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/need"
	"dokku-expose/internal/netns"
)

// When the local ports to a container have run out, HAProxy holds the clients, as it does when the container is down. It still names
// the container, so that a reconcile can leave it in service, and serves the clients when a table proves it, as ports become free.
func TestLocalPortsRunOut(t *testing.T) {
	need.HAProxy(t)
	if !netns.Alone(t, 8) {
		return
	}
	server := enginetest.NewServer(t, "v1")
	h := haproxytest.Start(t)
	listen := deploy.Key{Port: enginetest.FreePort(t)}
	route := deploy.Route{
		App: "mail", Process: "web", Key: listen, Hold: time.Minute, HealthCheck: time.Second,
		Servers: []deploy.Server{{Container: "v1", Dyno: "web.1", Addr: server.Addr, Proven: true}},
	}
	prove := func() {
		t.Helper()
		if _, err := h.Engine.Apply(t.Context(), deploy.Table{Routes: []deploy.Route{route}}); err != nil {
			t.Fatal(err)
		}
	}
	prove()
	var clients []net.Conn
	for n := range 12 {
		// Its own port is none of those that are short.
		from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000 + n}
		conn, err := net.DialTCP("tcp4", from, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(listen.Port)})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		clients = append(clients, conn)
	}
	greeted := make(chan net.Conn)
	for _, conn := range clients {
		go func() {
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Errorf("no greeting: %v", err)
			}
			greeted <- conn
		}()
	}
	down := func() bool {
		s := serving(t, h)[listen]
		if len(s.Servers) != 1 || s.Servers[0].Addr != server.Addr {
			t.Fatalf("HAProxy serves %+v", s)
		}
		return !s.Servers[0].Up
	}
	// The first ones keep their ports until HAProxy has found out that there are no more.
	var first []net.Conn
	for !down() {
		select {
		case conn := <-greeted:
			first = append(first, conn)
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("HAProxy does not find out that there are no ports left")
		}
	}
	for _, conn := range first {
		reset(t, conn)
	}
	for left := len(clients) - len(first); left > 0; {
		select {
		case conn := <-greeted:
			reset(t, conn)
			left--
		case <-time.After(100 * time.Millisecond):
			prove()
		}
	}
}

// reset ends a connection so that it leaves nothing behind.
func reset(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
}
