package load

import (
	"net"
	"testing"
	"time"
)

func TestHeldConnectionOfAContainerThatDies(t *testing.T) {
	for _, test := range []struct {
		name string
		dies func(*Load)
		want Held
	}{
		{"its own", func(l *Load) { l.Dies(c1 + rest) }, Held{Opened: 2, Open: 1, Ended: 1}},
		{"another one", func(l *Load) { l.Dies(c2 + rest) }, Held{Opened: 2, Open: 1, Broken: 1}},
		{"its own, which is noticed late", func(l *Load) { l.Dies(c1 + rest)() }, Held{Opened: 2, Open: 1, Ended: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := listen(t, app("v1", c1))
			l := start(t, Config{Addr: s.addr, Holders: 1, HoldInterval: time.Millisecond})
			test.dies(l)
			s.become(app("v1", c2))
			s.closeOld()
			until(t, l, "a new held connection", func(r Report) bool { return r.Held.Opened == 2 })
			if r := l.Stop(); r.Held != test.want {
				t.Errorf("held %+v, want %+v; failures %v", r.Held, test.want, r.Failures)
			}
		})
	}
}

func TestContainerThatDiedMayServeAgain(t *testing.T) {
	s := listen(t, app("v1", c1))
	l := start(t, Config{Addr: s.addr, Openers: 1, Holders: 1, HoldInterval: time.Millisecond})
	l.Dies(c1)()
	await(t, l, 5)
	s.become(app("v1", c1))
	s.closeOld()
	until(t, l, "a new held connection", func(r Report) bool { return r.Held.Opened == 2 })
	s.become(app("v1", c1))
	s.closeOld()
	until(t, l, "a broken connection", func(r Report) bool { return r.Held.Broken == 1 })
	if r := l.Stop(); r.Stale > 0 || r.Held.Ended != 1 {
		t.Errorf("%d stale, held %+v: want none, and 1 ended", r.Stale, r.Held)
	}
}

// What was closed before its greeting is the dead container's once for each client; more of it is somebody else's doing.
func TestConnectionsWithoutAGreetingWhenAContainerDies(t *testing.T) {
	s := listen(t, app("v1", c1))
	l := start(t, Config{Addr: s.addr, Openers: 2})
	await(t, l, 1)
	dead := l.Dies(c1)
	s.become(func(c *net.TCPConn) { _ = c.Close() })
	until(t, l, "three that were closed early", func(r Report) bool { return r.Ended+r.ClosedEarly+r.Reset >= 3 })
	s.become(app("v1", c1))
	dead()
	await(t, l, 3)
	if r := l.Stop(); r.Ended != 2 || r.Failed() == 0 {
		t.Errorf("%d ended, %d failed; want 2, and at least one", r.Ended, r.Failed())
	}
}
