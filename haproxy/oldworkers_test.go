package haproxy_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/wait"
)

// Connections of an old worker count for its routes: those of all their servers, until each has ended.
func TestTrafficOfAnOldWorker(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2 := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2")
	mail, news, down := route("mail", port(t), v1), route("news", port(t), v1, v2), route("down", port(t))
	apply(t, h, mail, news, down)
	if old := traffic(t, h).Old; len(old) > 0 {
		t.Errorf("no worker is old, and there are %v", old)
	}
	one, _ := connect(t, mail.Key)
	for range 2 {
		connect(t, news.Key)
	}
	open(t, down.Key)
	worker := status(t, h).Worker
	apply(t, h, mail, news, down, route("chat", port(t)))
	want := func(when, servers string, connections int) {
		t.Helper()
		wait.Until(t, when, func() bool {
			got := traffic(t, h)
			var all []string
			for _, r := range got.Routes {
				for _, s := range r.Servers {
					all = append(all, fmt.Sprintf("%s %s %d", r.App, s.Addr, s.Connections))
				}
			}
			return strings.Join(all, ", ") == servers && slices.Equal(got.Old, []deploy.Process{{PID: worker, Connections: connections}})
		})
	}
	first, second := v1.Addr, v2.Addr
	if first.Compare(second) > 0 {
		first, second = second, first
	}
	others := fmt.Sprintf("news %s 1, news %s 1", first, second)
	want("three connections are on servers, and one is held", fmt.Sprintf("mail %s 1, %s", v1.Addr, others), 4)
	closeConn(t, one)
	want("the one that has ended is not counted", fmt.Sprintf("mail %s 0, %s", v1.Addr, others), 3)
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
	trying, alsoTrying := open(t, mail.Key), open(t, other.Key)
	apply(t, h, mail, other, route("news", port(t)))

	mail.Servers = route("mail", mail.Key, v2).Servers
	apply(t, h, mail, other, route("news", port(t)))
	gone.Listen()
	if n, err := trying.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes, %v; want the connection closed", n, err)
	}
	if got := firstLine(t, alsoTrying); got != fmt.Sprintf("gone gone %d\n", gone.Addr.Port()) {
		t.Errorf("%q greets on the route that has the server still", got)
	}
	answers(t, mail.Key, "v2")
}
