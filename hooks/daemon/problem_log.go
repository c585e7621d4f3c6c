package daemon

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"dokku-expose/deploy"
)

// briefHold is how long public ports may have no server before the log calls that a problem: an ordinary start takes less.
const briefHold = 5 * time.Second

// port is a public port that an app asks for.
type port struct {
	app string
	deploy.Key
}

// problem is one of the model's, or of the whole host: then it has no app.
type problem struct {
	app, text string
	// held are the public ports that have no server for this reason, none for a problem of another kind.
	held []port
}

func problemOf(p *deploy.Problem) problem {
	told := problem{app: p.App, text: p.Error()}
	var outage *deploy.Outage
	switch {
	case errors.As(p, &outage):
		for _, claim := range outage.Claims {
			told.held = append(told.held, port{p.App, claim.Key})
		}
	case errors.Is(p, deploy.ErrNotAccepting):
		told.held = []port{{p.App, p.Key}}
	}
	return told
}

// hostProblems are the problems of which an error of the whole host tells: one that lasts is not solved because another came beside it.
func hostProblems(err error) (list []problem) {
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // one level at a time is the point
	if !ok || errors.Join(joined.Unwrap()...).Error() != err.Error() {
		return []problem{{text: err.Error()}}
	}
	for _, one := range joined.Unwrap() {
		list = append(list, hostProblems(one)...)
	}
	return list
}

// problemLog logs what is wrong when it begins and when it ends.
type problemLog struct {
	log *slog.Logger
	// told are the problems that were logged and are still there.
	told []problem
	// since is when the ports that have no server now began to have none.
	since map[port]time.Time
}

// note takes all problems of now. It returns when a problem is due that is too young to be logged, the zero time when there is none.
// The reason why a port has no server may change with each restart of a container; one of them is logged.
func (l *problemLog) note(problems []problem, now time.Time) (due time.Time) {
	since := make(map[port]time.Time)
	for _, p := range problems {
		for _, held := range p.held {
			since[held] = now
			if before, ok := l.since[held]; ok {
				since[held] = before
			}
		}
	}
	l.since = since

	l.told = slices.DeleteFunc(l.told, func(t problem) bool {
		stays := slices.ContainsFunc(t.held, l.isHeld)
		if len(t.held) == 0 {
			stays = contains(problems, t)
		}
		if !stays {
			l.log.Info("solved", "app", t.app, "problem", t.text)
		}
		return !stays
	})
	for _, p := range problems {
		if l.knows(p) {
			continue
		}
		if at := l.dueAt(p); at.After(now) {
			if due.IsZero() || at.Before(due) {
				due = at
			}
			continue
		}
		l.log.Error("problem", "app", p.app, "error", p.text)
		l.told = append(l.told, p)
	}
	return due
}

// ofApps are the logged problems of apps, which are there still as far as anybody knows who can't read anything of the apps.
func (l *problemLog) ofApps() []problem {
	return slices.DeleteFunc(slices.Clone(l.told), func(p problem) bool { return p.app == "" })
}

func (l *problemLog) isHeld(p port) bool { _, held := l.since[p]; return held }

// dueAt is when a problem is to be logged: that of the port that has had no server for the longest time, the zero time for at once.
func (l *problemLog) dueAt(p problem) (due time.Time) {
	for _, held := range p.held {
		if at := l.since[held].Add(briefHold); due.IsZero() || at.Before(due) {
			due = at
		}
	}
	return due
}

// knows tells whether a problem was logged, for a port without a server whether any reason was.
func (l *problemLog) knows(p problem) bool {
	if len(p.held) == 0 {
		return contains(l.told, p)
	}
	return !slices.ContainsFunc(p.held, func(held port) bool {
		return !slices.ContainsFunc(l.told, func(t problem) bool { return slices.Contains(t.held, held) })
	})
}

func contains(problems []problem, p problem) bool {
	return slices.ContainsFunc(problems, func(o problem) bool { return o.app == p.app && o.text == p.text })
}
