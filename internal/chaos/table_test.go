package chaos_test

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"dokku-expose/internal/load"
)

// row is what clients saw of one fault with one engine.
type row struct {
	fault, engine, promise string
	tried, failed          int
	// ended are connections that ended with their own container, broken held ones that anything else ended, and misled those
	// that got to another app.
	ended, broken, misled int
	// healed is how long it took, once everything that is not the plugin's was well again, until each current container had
	// answered a new connection.
	healed time.Duration
	// wrong is what was promised and not kept.
	wrong []string
}

func (r *row) count(app string, report load.Report) {
	r.tried += report.Tried
	r.failed += report.Failed()
	r.ended += report.Ended + report.Held.Ended
	r.broken += report.Held.Broken
	r.misled += misled(app, report)
}

// table is the rows of all faults, those of several rounds in one.
type table struct {
	mu   sync.Mutex
	rows []row
}

func (t *table) add(r row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.rows, func(o row) bool { return o.fault == r.fault && o.engine == r.engine })
	if i < 0 {
		t.rows = append(t.rows, r)
		return
	}
	sum := &t.rows[i]
	sum.tried += r.tried
	sum.failed += r.failed
	sum.ended += r.ended
	sum.broken += r.broken
	sum.misled += r.misled
	sum.healed = max(sum.healed, r.healed)
	sum.wrong = append(sum.wrong, r.wrong...)
}

func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortFunc(t.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.fault, b.fault), cmp.Compare(a.engine, b.engine))
	})
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "fault\tengine\ttried\tfailed\tended\tbroken\twrong app\thealed after\tmay be lost\t")
	for _, r := range t.rows {
		verdict := ""
		if len(r.wrong) > 0 {
			verdict = "NOT KEPT"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", r.fault, r.engine, r.tried, r.failed, r.ended, r.broken, r.misled,
			r.healed.Round(time.Millisecond), r.promise, verdict)
	}
	_ = w.Flush() // into memory
	fmt.Fprintln(&text, "ended: with their own container; broken: held connections that anything else ended; "+
		"healed after: the slowest round")
	return text.String()
}

func TestPromises(t *testing.T) {
	report := func(change func(*load.Report)) load.Report {
		r := load.Report{
			Counts: load.Counts{Tried: 10, Answered: 10}, Versions: []load.Version{{Name: "mail-1", Answers: 10}},
			Phases: []load.Phase{{Name: "start"}, {Name: after}},
		}
		change(&r)
		return r
	}
	for _, test := range []struct {
		name   string
		report load.Report
		kept   []promise
	}{
		{"all is well", report(func(*load.Report) {}), []promise{loseNothing, loseOwn, loseEngine}},
		{"a container's connection ended", report(func(r *load.Report) { r.Held.Ended = 1 }), []promise{loseOwn, loseEngine}},
		{"a connection was refused", report(func(r *load.Report) { r.Refused = 1 }), []promise{loseEngine}},
		{"a held connection broke", report(func(r *load.Report) { r.Held.Broken = 1 }), []promise{loseEngine}},
		{"one was held in vain", report(func(r *load.Report) { r.TimedOut = 1 }), nil},
		{"one was refused afterwards", report(func(r *load.Report) { r.Refused, r.Phases[1].Refused = 1, 1 }), nil},
		{"a former container answered", report(func(r *load.Report) { r.Stale = 1 }), nil},
		{"something else answered", report(func(r *load.Report) { r.Garbled = 1 }), nil},
		{"another app answered", report(func(r *load.Report) { r.Versions[0].Name = "chat-1" }), nil},
	} {
		for _, p := range []promise{loseNothing, loseOwn, loseEngine} {
			if kept := len(p.broken("mail", test.report)) == 0; kept != slices.Contains(test.kept, p) {
				t.Errorf("%s: to lose %s is kept: %v", test.name, p.text, kept)
			}
		}
	}
}
