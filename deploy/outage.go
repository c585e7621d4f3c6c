package deploy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Outage is the problem that no container of a process type serves its public ports, with the reason.
type Outage struct {
	App, Process string
	// Claims are the public ports concerned, sorted by address.
	Claims []Claim
	// Others are the app's process types that have a running container.
	Others []string
	// Unscalable tells that Dokku refuses ps:scale for the app, because its app.json has a formation.
	Unscalable bool

	places []Place
	// states are the containers of the places that Docker knows as the app's, by id.
	states map[string]Endpoint
	// ends are what is known of how some of them ended, by id.
	ends map[string]End
}

// End tells how a container's process ended last.
type End struct {
	// Code is its exit code, more than 128 for a process that a signal ended, and -1 where Docker does not know it any more,
	// because it has started the container again.
	Code int
	// At is when, the zero time for a container that never ran.
	At time.Time
	// Restarts is how often Docker has started it again by itself.
	Restarts int
	// OutOfMemory tells that the kernel killed it for its use of memory.
	OutOfMemory bool
	// Failure is why Docker could not start it, "" when it could.
	Failure string
}

// Ports are the public ports concerned, shortly.
func (o *Outage) Ports() string { return PublicPorts(o.Claims) }

// Ended are the ids of the containers of which End can tell more.
func (o *Outage) Ended() []string {
	var ids []string
	for _, p := range o.places {
		if c, known := o.states[p.Container]; known && !c.Running && !c.Pod && c.State != "paused" {
			ids = append(ids, p.Container)
		}
	}
	return ids
}

// Explain adds how a container ended.
func (o *Outage) Explain(id string, end End) {
	if o.ends == nil {
		o.ends = make(map[string]End)
	}
	o.ends[id] = end
}

func (o *Outage) Error() string {
	if len(o.places) == 0 {
		return o.withoutContainer()
	}
	var reasons []string
	for _, p := range o.places {
		reasons = append(reasons, fmt.Sprintf("%s (%s) %s", p.Dyno, shortID(p.Container), o.state(p.Container)))
	}
	text := fmt.Sprintf("no container serves it: %s; start the app anew: dokku ps:restart %s", strings.Join(reasons, ", "), o.App)
	if slices.ContainsFunc(o.places, o.hasRun) {
		text += "; what it said: dokku logs " + o.App
	}
	return text
}

// hasRun tells whether Docker has the container of a place still, with what it said. One that was never started said nothing.
func (o *Outage) hasRun(p Place) bool {
	_, known := o.states[p.Container]
	end, ended := o.ends[p.Container]
	return known && (!ended || !end.At.IsZero())
}

func (o *Outage) withoutContainer() string {
	remedy := fmt.Sprintf("start one: dokku ps:scale %s %s=1", o.App, o.Process)
	if o.Unscalable {
		remedy = fmt.Sprintf("have one: set formation.%s.quantity in the app's app.json, which forbids ps:scale, and deploy that", o.Process)
	}
	if len(o.Others) > 0 {
		remedy += fmt.Sprintf("; or name another process type with process=TYPE (%s)", strings.Join(o.Others, ", "))
	}
	return fmt.Sprintf("it is closed, since the process type %s has no container (%s); %s", o.Process, whereAll(o.Claims), remedy)
}

// state says what is wrong with the container of a place.
func (o *Outage) state(id string) string {
	c, known := o.states[id]
	if !known {
		return "is gone from Docker"
	}
	end, ended := o.ends[id]
	switch {
	case c.Running:
		return "runs an image whose PORTS does not have it"
	case c.Pod:
		return "is not ready (" + c.State + ")"
	case c.State == "paused":
		return "is paused (docker container unpause " + shortID(id) + ")"
	case ended && end.At.IsZero():
		return strings.TrimSuffix("was never started: "+end.Failure, ": ")
	case !ended:
		return fmt.Sprintf("does not run (Docker says %q)", c.State)
	case c.State == "restarting":
		return "crashes again and again, last " + end.String()
	}
	return "has ended " + end.String()
}

func (e End) String() string {
	text := ""
	if e.Code >= 0 {
		text = fmt.Sprintf("with exit code %d ", e.Code)
	}
	switch signal := unix.SignalName(syscall.Signal(e.Code - 128)); {
	case e.OutOfMemory:
		text += "(out of memory) "
	case signal != "":
		text += "(" + signal + ") "
	}
	text += "at " + e.At.Local().Format(time.Stamp)
	switch {
	case e.Restarts == 1:
		text += ", after a restart by Docker"
	case e.Restarts > 0:
		text += fmt.Sprintf(", after %d restarts by Docker", e.Restarts)
	}
	if e.Failure != "" {
		text += ": " + e.Failure
	}
	return text
}

// outages adds a problem for each process type of an app whose public ports no container serves, unless the reason is
// known already, or the deploy on its way is about to replace the containers.
func (b *builder) outages(table Table) {
	served := make(map[Key]bool)
	for _, r := range table.Routes {
		served[r.Key] = len(r.Servers) > 0
	}
	told := make(map[string]map[Key]bool)
	for _, p := range b.problems {
		if told[p.App] == nil {
			told[p.App] = make(map[Key]bool)
		}
		told[p.App][p.Key] = true
	}
	for i := range b.apps {
		a := &b.apps[i]
		if a.Off != "" || a.Err != nil || b.trust(a) != Fresh {
			continue
		}
		places := b.places(a)
		byProcess := make(map[string]*Outage)
		for _, claim := range b.claimsInForce(a, places) {
			if served[claim.Key] || told[a.Name][claim.Key] {
				continue
			}
			o := byProcess[claim.Process]
			if o == nil {
				o = b.newOutage(a, claim.Process, places)
				byProcess[claim.Process] = o
			}
			o.Claims = append(o.Claims, claim)
		}
		for _, process := range slices.Sorted(maps.Keys(byProcess)) {
			o := byProcess[process]
			if o.beingReplaced(a.Deploying) {
				continue
			}
			slices.SortFunc(o.Claims, func(x, y Claim) int { return x.Key.Compare(y.Key) })
			o.Claims = slices.CompactFunc(o.Claims, func(x, y Claim) bool { return x.Key == y.Key })
			b.problems = append(b.problems, &Problem{App: a.Name, Err: o})
		}
	}
}

// claimsInForce are the claims that the app's routes are made of.
func (b *builder) claimsInForce(a *App, places []Place) []Claim {
	var claims []Claim
	for _, image := range b.imagesInForce(a, places) {
		claims = append(claims, a.Images[image]...)
	}
	return append(claims, a.Operator...)
}

func (b *builder) newOutage(a *App, process string, places []Place) *Outage {
	o := &Outage{App: a.Name, Process: process, states: make(map[string]Endpoint)}
	for _, p := range places {
		c := b.byID[p.Container]
		if p.Process != process {
			if b.serves(a, c) && !slices.Contains(o.Others, p.Process) {
				o.Others = append(o.Others, p.Process)
			}
			continue
		}
		o.places = append(o.places, p)
		if c != nil && a.goesBy(c.App) {
			o.states[c.ID] = *c
		}
	}
	return o
}

// beingReplaced tells whether the deploy on its way has taken all of the containers out of service itself. In the midst of a
// rename Dokku stops all of them.
func (o *Outage) beingReplaced(d *Deployment) bool {
	return d != nil && d.Former != "" || d != nil && len(o.places) > 0 && !slices.ContainsFunc(o.places, func(p Place) bool {
		return !slices.Contains(d.Retired, p.Container)
	})
}
