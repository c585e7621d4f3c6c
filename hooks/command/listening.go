package command

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
)

// errNobodyListens is what an engine does not know of a port that somebody closed behind its back.
var errNobodyListens = errors.New("nobody listens on it, though the engine takes it for open, so clients are refused; restart the engine: systemctl restart dokku-expose-haproxy, or with the built-in engine dokku-expose (runit: sv restart)")

// checkListeners looks who listens where the engine says that it does: the kernel lets two share a port when both want to, one on a
// single address goes before one on all, and a port that the engine was made to close may be somebody else's by now.
func checkListeners(o deploy.Observation, note func(app, public string, err error)) {
	sockets, err := listeners.List()
	note("", "", err)
	if err != nil {
		return
	}
	own, serving := ownSockets(o.Processes), o.Serving()
	for _, listen := range slices.SortedFunc(maps.Keys(serving), deploy.Key.Compare) {
		service := serving[listen]
		var ours, others []listeners.Listener
		for _, s := range sockets {
			switch {
			case !s.Conflicts(listen.Frontend()):
			case own(s):
				ours = append(ours, s)
			default:
				others = append(others, s)
			}
		}
		public := listen.String()
		switch {
		case len(ours)+len(others) == 0:
			note(service.App, public, errNobodyListens)
		case len(ours) == 0:
			note(service.App, public, fmt.Errorf("%s listens on it and not the engine, so clients come to the wrong place; stop it (%s names it) and restart the engine",
				listeners.Who(others[0]), listeners.Command(listen.Frontend())))
		case len(others) > 0:
			note(service.App, public, fmt.Errorf("%s and %s both listen on it, so some clients go astray; stop the one that is not dokku-expose's (%s names them)",
				listeners.Who(ours[0]), listeners.Who(others[0]), listeners.Command(listen.Frontend())))
		}
	}
}

// ownSockets tells which sockets are those of the processes: by their open files, or by their users where these can't be seen.
func ownSockets(pids []int) func(listeners.Listener) bool {
	inodes, seen := listeners.Open(pids)
	if seen {
		return func(s listeners.Listener) bool { return inodes[s.Inode] }
	}
	users := listeners.Users(pids)
	return func(s listeners.Listener) bool { return len(users) == 0 || slices.Contains(users, s.UID) }
}
