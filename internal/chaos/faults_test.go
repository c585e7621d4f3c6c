package chaos_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dokku-expose/internal/load"
)

// fault is one thing that goes wrong.
type fault struct {
	name    string
	promise promise
	// engine is the only one that it is about, "" for both.
	engine string
	// dockerd has it made on a host with a Docker of its own.
	dockerd bool
	// short has it in the short form too.
	short bool
	// inject makes the fault. It returns when everything that is not the plugin's is well again: what went down outside of
	// it is up, and there is room on the disk.
	inject func(*scene)
}

// promise is what clients may lose. Whatever it is: no connection gets to the wrong app, none is held and then forgotten, and
// none fails once all is well again.
type promise struct {
	text string
	// own are the connections of containers that ended, engine those through a process of the engine that was killed, and the
	// new ones until it is back.
	own, engine bool
}

var (
	loseNothing = promise{text: "nothing"}
	loseOwn     = promise{text: "what its own container ended", own: true}
	loseEngine  = promise{text: "what went through the dead process", own: true, engine: true}
)

func allFaults() []fault {
	return slices.Concat(containerFaults, processFaults, deployFaults, diskFaults, dockerdFaults)
}

func TestFaults(t *testing.T) {
	var rows table
	// It is called when the parallel tests below have ended.
	t.Cleanup(func() { t.Logf("what clients saw:\n%s", rows.String()) })
	for _, engine := range []string{"haproxy", "builtin"} {
		for _, dockerd := range []bool{false, true} {
			faults := slices.DeleteFunc(allFaults(), func(f fault) bool {
				return f.dockerd != dockerd || f.engine != "" && f.engine != engine || *rounds == 0 && !f.short
			})
			if len(faults) == 0 {
				continue
			}
			name := engine
			if dockerd {
				name += " with its own dockerd"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				makeAll(t, engine, dockerd, faults, &rows)
			})
		}
	}
}

// makeAll makes faults one after the other on one host, which is replaced when it did not survive one.
func makeAll(t *testing.T, engine string, dockerd bool, faults []fault, rows *table) {
	var s *scene
	for range max(1, *rounds) {
		for _, f := range faults {
			if s == nil {
				s = newScene(t, engine, dockerd)
			}
			survived := t.Run(f.name, func(t *testing.T) {
				defer func() { s.t = nil }()
				s.t = t
				r := s.make(f)
				rows.add(r)
				if len(r.wrong) > 0 {
					t.Errorf("lost may be: %s\n%s\n%s", f.promise.text, strings.Join(r.wrong, "\n"), s.evidence())
				}
			})
			if !survived {
				s = nil
			}
		}
	}
}

// make makes one fault under load and tells what clients saw of it.
func (s *scene) make(f fault) row {
	s.t.Helper()
	s.startLoad()
	f.inject(s)
	r := row{fault: f.name, engine: s.engine, promise: f.promise.text, healed: s.healed()}
	for _, a := range s.apps {
		a.load().Phase(after)
	}
	s.seen(settled)
	s.healthy()
	for _, a := range s.apps {
		report := a.load().Stop()
		r.count(a.name, report)
		r.wrong = append(r.wrong, f.promise.broken(a.name, report)...)
	}
	return r
}

const (
	// after is the load's phase when all is well again.
	after = "afterwards"
	// settled is how many connections each app must answer then.
	settled = 20
)

// broken tells what clients of an app lost against the promise.
func (p promise) broken(app string, r load.Report) (wrong []string) {
	add := func(format string, args ...any) {
		wrong = append(wrong, app+": "+fmt.Sprintf(format, args...))
	}
	if n := misled(app, r); n > 0 {
		add("%d connections got to another app", n)
	}
	if r.TimedOut > 0 {
		add("%d connections were held in vain", r.TimedOut)
	}
	if n := r.Stale + r.Garbled; p.engine && n > 0 {
		add("%d connections got to a container that was no longer current, or got something else than an answer", n)
	}
	if !p.engine && r.Failed() > 0 {
		add("%d connections failed", r.Failed())
	}
	if !p.engine && r.Held.Broken > 0 {
		add("%d held connections were broken", r.Held.Broken)
	}
	if n := r.Ended + r.Held.Ended; !p.own && n > 0 {
		add("%d connections were ended by their container", n)
	}
	for _, phase := range r.Phases {
		// Not the held ones: that one broke before is noticed a moment later.
		if phase.Name == after && p.engine && phase.Failed() > 0 {
			add("%d connections failed when all was well again", phase.Failed())
		}
	}
	if len(wrong) > 0 {
		var text strings.Builder
		_ = r.Print(&text) // into memory
		wrong = append(wrong, text.String())
	}
	return wrong
}

// misled are the connections to an app that another one answered.
func misled(app string, r load.Report) (n int) {
	for _, v := range r.Versions {
		if !strings.HasPrefix(v.Name, app+"-") {
			n += v.Answers
		}
	}
	return n
}

// pause is how long a fault lasts that is one by its duration.
const pause = 2 * time.Second
