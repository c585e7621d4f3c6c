package chaos_test

import (
	"net/netip"
	"slices"
	"syscall"

	"github.com/docker/docker/api/types/container"

	"dokku-expose/internal/need"
)

var containerFaults = []fault{
	{name: "docker restart, one of three", promise: loseOwn, inject: func(s *scene) { s.restart(s.current(s.mail())[0]) }},
	{name: "docker restart, the only one", promise: loseOwn, inject: func(s *scene) { s.restart(s.current(s.chat())[0]) }},
	{name: "docker kill, one of three", promise: loseOwn, short: true, inject: func(s *scene) {
		id := s.current(s.mail())[0]
		s.kill(id)
		s.start(id)
	}},
	{name: "docker kill, the only one", promise: loseOwn, short: true, inject: func(s *scene) {
		id := s.current(s.chat())[0]
		s.kill(id)
		s.start(id)
	}},
	{name: "docker kill, all at once", promise: loseOwn, inject: func(s *scene) {
		ids := append(s.current(s.mail()), s.current(s.chat())...)
		s.kill(ids...)
		s.start(ids...)
	}},
	{name: "crash, one of three", promise: loseOwn, inject: func(s *scene) { s.crash(s.current(s.mail())[0]) }},
	{name: "crash, the only one", promise: loseOwn, inject: func(s *scene) { s.crash(s.current(s.chat())[0]) }},
	{name: "addresses swapped between apps", promise: loseOwn, short: true, inject: (*scene).swap},
}

// restart is `docker restart`.
func (s *scene) restart(id string) {
	s.t.Helper()
	dead := s.dies(id)
	s.must(s.Docker.ContainerRestart(s.t.Context(), id, container.StopOptions{}))
	dead()
}

// kill is `docker kill`, after which Docker's own restart policy does nothing.
func (s *scene) kill(ids ...string) {
	s.t.Helper()
	dead := s.dies(ids...)
	for _, id := range ids {
		s.must(s.Docker.ContainerKill(s.t.Context(), id, "KILL"))
	}
	for _, id := range ids {
		s.await("container "+id[:12]+" is dead", func() bool { return !s.inspect(id).State.Running })
	}
	dead()
}

// start starts containers in that order.
func (s *scene) start(ids ...string) {
	s.t.Helper()
	for _, id := range ids {
		s.must(s.Docker.ContainerStart(s.t.Context(), id, container.StartOptions{}))
	}
}

// crash kills the container's process, and Docker starts it again as the restart policy says.
func (s *scene) crash(id string) {
	s.t.Helper()
	need.Root(s.t)
	pid := s.inspect(id).State.Pid
	dead := s.dies(id)
	s.must(syscall.Kill(pid, syscall.SIGKILL))
	s.await("Docker has started "+id[:12]+" again", func() bool {
		state := s.inspect(id).State
		return state.Running && state.Pid != pid
	})
	dead()
}

// swap gives one app's container an address that another app's had.
func (s *scene) swap() {
	s.t.Helper()
	mail, chat := s.current(s.mail())[0], s.current(s.chat())[0]
	// Others on this Docker may take the addresses first.
	for range 10 {
		before := []netip.Addr{s.address(mail), s.address(chat)}
		s.kill(mail, chat)
		// The first to start gets the lowest address.
		if before[0].Less(before[1]) {
			s.start(chat, mail)
		} else {
			s.start(mail, chat)
		}
		now := []netip.Addr{s.address(mail), s.address(chat)}
		if now[0] == before[1] || now[1] == before[0] {
			return
		}
	}
	s.t.Fatal("the containers never got each other's addresses")
}

// others are all current containers, the one with the highest address first: started in this order they have other addresses.
func (s *scene) others() []string {
	s.t.Helper()
	ids := append(s.current(s.mail()), s.current(s.chat())...)
	slices.SortFunc(ids, func(a, b string) int { return s.address(b).Compare(s.address(a)) })
	return ids
}
