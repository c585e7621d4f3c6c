package load

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// Report is what clients saw. Times count from the load's start.
type Report struct {
	Counts
	Phases   []Phase   // in order; connections count where they began
	Versions []Version // by first answer
	// Containers are the answers of each container, by the first twelve digits of its id.
	Containers map[string]int
	Held       Held
	// Holding are the connections that were held when the report was made, by version.
	Holding  map[string]int
	Failures []Failure // the first ten
}

// Counts are connections by outcome. All but Answered and Ended are failures.
type Counts struct {
	Tried    int
	Answered int // greeting and echo came
	Refused  int
	Reset    int
	// ClosedEarly were closed before the greeting, Cut after it and before the echo.
	ClosedEarly int
	Cut         int
	TimedOut    int
	Garbled     int // what came was not what the app sends
	Local       int // failed on the client's own side: out of ports or files
	Ended       int // by their own container, after Retired and its grace or by Dies
	Stale       int // answered by a version or a container that was no longer current when they began
}

// Failed is how many connections went wrong: not answered, or by somebody who should not have.
func (c Counts) Failed() int {
	return c.Refused + c.Reset + c.ClosedEarly + c.Cut + c.TimedOut + c.Garbled + c.Local + c.Stale
}

// Phase is one part of the load, as Load.Phase named it.
type Phase struct {
	Counts
	Name    string
	Began   time.Duration
	Answers map[string]int // greetings by version
	Slowest time.Duration  // from connecting to the greeting
}

// Version is what was seen of one version.
type Version struct {
	Name        string
	Answers     int
	First, Last time.Duration
}

// Held are the held connections. Opened counts those of a holder whose connection had ended too.
type Held struct {
	Opened int
	// Open were so until the load ended them, or are.
	Open   int
	Ended  int // by their own container, after Retired and its grace or by Dies
	Broken int
}

// Failure describes one connection that went wrong.
type Failure struct {
	Phase       string
	Began, Took time.Duration
	// Version and Container are those of the greeting, empty when there was none.
	Version, Container string
	What               string
	Err                error // nil when the connection itself was well: a stale answer
}

func (f Failure) String() string {
	who := "no greeting"
	if f.Version != "" {
		who = f.Version + " in container " + f.Container
	}
	text := fmt.Sprintf("%s: began at %.3fs, %s after %s (%s)", f.Phase, f.Began.Seconds(), f.What, f.Took.Round(time.Millisecond), who)
	if f.Err != nil {
		text += ": " + f.Err.Error()
	}
	return text
}

// Report tells what clients saw up to now.
func (l *Load) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Report{Containers: maps.Clone(l.containers), Holding: maps.Clone(l.held), Failures: slices.Clone(l.failures)}
	for _, p := range l.phases {
		counts := p.report()
		if counts.Tried == 0 && p.held == (Held{}) {
			continue // nothing was seen in it
		}
		r.Phases = append(r.Phases, Phase{
			Counts: counts, Name: p.name, Began: p.began, Answers: maps.Clone(p.answers), Slowest: p.slowest,
		})
		r.Counts = r.Counts.plus(counts)
		r.Held.Opened += p.held.Opened
		r.Held.Ended += p.held.Ended
		r.Held.Broken += p.held.Broken
	}
	r.Held.Open = r.Held.Opened - r.Held.Ended - r.Held.Broken
	for name, v := range l.versions {
		r.Versions = append(r.Versions, Version{Name: name, Answers: v.answers, First: v.first, Last: v.last})
	}
	slices.SortFunc(r.Versions, func(a, b Version) int { return cmp.Compare(a.First, b.First) })
	return r
}

func (p *phase) report() Counts {
	c := Counts{
		Answered: p.counts[answered], Refused: p.counts[refused], Reset: p.counts[reset], ClosedEarly: p.counts[closedEarly],
		Cut: p.counts[cut], TimedOut: p.counts[timedOut], Garbled: p.counts[garbled], Local: p.counts[local],
		Ended: p.counts[ended], Stale: p.counts[stale],
	}
	for _, n := range p.counts {
		c.Tried += n
	}
	return c
}

func (c Counts) plus(o Counts) Counts {
	return Counts{
		Tried: c.Tried + o.Tried, Answered: c.Answered + o.Answered, Refused: c.Refused + o.Refused, Reset: c.Reset + o.Reset,
		ClosedEarly: c.ClosedEarly + o.ClosedEarly, Cut: c.Cut + o.Cut, TimedOut: c.TimedOut + o.TimedOut,
		Garbled: c.Garbled + o.Garbled, Local: c.Local + o.Local, Ended: c.Ended + o.Ended, Stale: c.Stale + o.Stale,
	}
}

// Summary is the report in one line.
func (r Report) Summary() string {
	return fmt.Sprintf("%d connections tried, %d failed, %d held open, %d broken", r.Tried, r.Failed(), r.Held.Open, r.Held.Broken)
}

// Print writes the report as a table: a row for each phase, a column for the answers of each version; then the failures.
func (r Report) Print(w io.Writer) error {
	var text bytes.Buffer
	t := tabwriter.NewWriter(&text, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "tried\tfailed\tslowest\t")
	for _, v := range r.Versions {
		fmt.Fprintf(t, "%s\t", v.Name)
	}
	fmt.Fprint(t, "  phase\n")
	for _, p := range r.Phases {
		fmt.Fprintf(t, "%d\t%d\t%s\t", p.Tried, p.Failed(), p.Slowest.Round(time.Millisecond/10))
		for _, v := range r.Versions {
			fmt.Fprintf(t, "%d\t", p.Answers[v.Name])
		}
		fmt.Fprintf(t, "  %s\n", p.Name)
	}
	_ = t.Flush() // into a buffer
	fmt.Fprintf(&text, "held connections: %d opened, %d open to the end, %d ended by their own container, %d broken\n",
		r.Held.Opened, r.Held.Open, r.Held.Ended, r.Held.Broken)
	if r.Failed() > 0 {
		fmt.Fprintf(&text, "failed: %d refused, %d reset, %d closed before the greeting, %d closed after it, %d timed out, "+
			"%d garbled, %d on the client's own side, %d answered by an old container\n",
			r.Refused, r.Reset, r.ClosedEarly, r.Cut, r.TimedOut, r.Garbled, r.Local, r.Stale)
	}
	for _, f := range r.Failures {
		fmt.Fprintf(&text, "  %s\n", f)
	}
	_, err := w.Write(text.Bytes())
	return err
}
