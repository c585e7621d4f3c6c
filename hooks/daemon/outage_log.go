package daemon

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	"dokku-expose/deploy"
)

// lookAgain is the pause between two looks at an engine that does not run.
const lookAgain = 100 * time.Millisecond

// outageLog tells of an engine's death, of the connections that ended with it, and of its return. It is for an engine in another
// process: the daemon sees that HAProxy has gone, or that another one runs than at the last look.
type outageLog struct {
	log *slog.Logger
	// engine and pid are the main process at the last look that found one, seen is when that was.
	engine string
	pid    int
	seen   time.Time
	// open are the connections by app that it had then.
	open map[string]int
	// away tells that its death was told, and not its return.
	away bool
}

// note takes what a look has found. err is why the engine could not be asked.
func (l *outageLog) note(seen deploy.Observation, err error, now time.Time) {
	switch {
	case err == nil && !seen.Running:
		l.gone()
		return
	case err != nil || seen.PID == 0:
		return
	case seen.Engine != l.engine:
		l.away = false // moved from one to the other
	case seen.PID != l.pid:
		l.gone()
	}
	if l.away {
		l.log.Info("up", "engine", seen.Engine, "after", now.Sub(l.seen).Round(time.Millisecond))
	}
	l.engine, l.pid, l.seen, l.away = seen.Engine, seen.PID, now, false
	l.open = make(map[string]int)
	for _, r := range seen.Routes {
		l.open[r.App] += r.Held
		for _, s := range r.Servers {
			l.open[r.App] += s.Connections
		}
	}
}

// gone tells of the death, once.
func (l *outageLog) gone() {
	if l.away || l.pid == 0 {
		return
	}
	l.away = true
	l.log.Error("down", "engine", l.engine, "pid", l.pid)
	for _, app := range slices.Sorted(maps.Keys(l.open)) {
		if n := l.open[app]; n > 0 {
			l.log.Warn("lost", "app", app, "engine", l.engine, "connections", n)
		}
	}
	l.open = nil
}
