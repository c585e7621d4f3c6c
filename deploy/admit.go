package deploy

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"dokku-expose/portsfile"
)

// Request is what an app asks for, and all that decides whether it may have it.
type Request struct {
	App    string
	Claims []Claim
	Policy Policy
	// Domains are those that Dokku has for apps, by app, where a claim has a server name.
	Domains map[string][]string
	// Apps are all apps of the host, and Serving is what the engine says that it serves.
	Apps    []App
	Serving map[Key]RouteState
	// Unreadable is what other apps may ask for whose files can't be read, by app.
	Unreadable map[string]MayClaim
	// Occupied are addresses that others than apps have.
	Occupied []Occupied
	// Impossible are addresses that neither the engine nor the host can open.
	Impossible map[Key]error
}

// MayClaim are the public ports that the files of an app may ask for. Known is false where not even that can be told.
type MayClaim struct {
	Ports []portsfile.Range
	Known bool
	// Err says what can't be read.
	Err error
}

// Occupied is an address that a proxy of Dokku's, a container or another process of the host has.
type Occupied struct {
	// Conflicts tells whether an address can't be opened beside it.
	Conflicts func(Frontend) bool
	// Reason says who has it, and what to do about it.
	Reason func(Claim) error
	// Listens tells that a socket of the host is meant: one at an address that is served already is the engine's.
	Listens bool
}

// Admit tells what speaks against the claims of an app, all of it at once and in the order of their addresses; nil means that they may
// come into force. It reads nothing, and asks nobody.
func Admit(r Request) error {
	var found objections
	taken := Taken(r.Apps, r.App)
	var conflicts []*Conflict
	for _, c := range r.Claims {
		c.Options = c.options(r.Policy.Options)
		if conflict := taken.Conflict(c); conflict != nil {
			conflicts = append(conflicts, conflict)
		}
	}
	for _, conflict := range ByHolder(conflicts) {
		found.add(conflict, conflict.Wants()...)
	}
	for _, refusal := range r.Policy.Check(r.App, r.Claims) {
		found.add(refusal, refusal.Claims...)
	}
	unreadable, elsewhere := r.unreadable(), r.namesElsewhere()
	for _, c := range r.Claims {
		if err := elsewhere(c); err != nil {
			found.note(c, err)
		}
		if err := unreadable(c); err != nil {
			found.note(c, err)
		}
		if reason := r.OnHost(c); reason != nil {
			found.note(c, fmt.Errorf("public port %s (%s): %w", c.Key, c.Where(), reason))
		}
	}
	return found.inOrder()
}

// OnHost says why the host can't open the address of a claim, whichever app asks for it; nil when it can.
func (r Request) OnHost(c Claim) error {
	if reason := r.Impossible[c.Key]; reason != nil {
		return reason
	}
	for _, o := range r.Occupied {
		if o.Conflicts(c.Key.Frontend()) && !(o.Listens && r.listens(c.Key.Frontend())) {
			return o.Reason(c)
		}
	}
	return nil
}

// listens tells whether the engine listens at an address, for whatever name.
func (r Request) listens(f Frontend) bool {
	for key := range r.Serving {
		if key.Frontend() == f {
			return true
		}
	}
	return false
}

// namesElsewhere returns a function that says that the server name of a claim is another app's: a domain of it in Dokku, or a name that it
// has at any port. Neither may be taken from it, unless an operator says so.
func (r Request) namesElsewhere() func(Claim) error {
	if namesOf(r.Claims) == portsfile.ServerNamesOf() {
		return func(Claim) error { return nil }
	}
	own := slices.Clone(r.Domains[r.App])
	type holder struct {
		name, app string
		// by is the mapping that has it, the zero value for a domain in Dokku.
		by Claim
	}
	var holders []holder
	for _, app := range slices.Sorted(maps.Keys(r.Domains)) {
		for _, domain := range r.Domains[app] {
			if app != r.App {
				holders = append(holders, holder{name: domain, app: app})
			}
		}
	}
	for i := range r.Apps {
		for _, c := range r.Apps[i].Claims() {
			switch {
			case c.Key.ServerName == "":
			case c.App == r.App:
				// An app that came later does not take it.
				own = append(own, c.Key.ServerName)
			default:
				holders = append(holders, holder{c.Key.ServerName, c.App, c})
			}
		}
	}
	return func(c Claim) error {
		name := c.Key.ServerName
		if name == "" || slices.Contains(own, name) || r.Policy.OwnNames.Cover(name) {
			return nil
		}
		i := slices.IndexFunc(holders, func(h holder) bool {
			// At the same frontend a wildcard takes nothing from a name that it covers.
			return portsfile.NameCovers(h.name, name) || portsfile.NameCovers(name, h.name) && h.by.Key.Frontend() != c.Key.Frontend()
		})
		if i < 0 {
			return nil
		}
		h := holders[i]
		has := fmt.Sprintf("a domain of the app %s (dokku domains:report %s)", h.app, h.app)
		if h.by.App != "" {
			has = fmt.Sprintf("a name of the app %s (%s, public port %s)", h.app, h.by.Where(), h.by.Key)
		}
		return fmt.Errorf("public port %s (%s): %s is %s; use another name, or have an operator allow it: dokku expose:set %s allowed-hosts %s",
			c.Key, c.Where(), h.name, has, r.App, r.Policy.namesWith([]Claim{c}))
	}
}

// unreadable returns a function that says that an address may be one of an app whose own files can't be read: it is served for that app,
// or these files may ask for it. Nobody knows what is the app's, but it must not become another app's for that.
func (r Request) unreadable() func(Claim) error {
	names := slices.Sorted(maps.Keys(r.Unreadable))
	var served Holders
	isServed := make(map[string]bool)
	own := make(map[Key]bool)
	if len(names) > 0 {
		for listen, service := range r.Serving {
			if _, unreadable := r.Unreadable[service.App]; unreadable {
				served.Add(Claim{App: service.App, Key: listen, Options: service.Options})
				isServed[service.App] = true
			}
		}
		for _, a := range r.Apps {
			if a.Name == r.App {
				// The addresses in force are the app's own.
				for _, c := range slices.Concat(a.Operator, a.Images[a.Current]) {
					own[c.Key] = true
				}
			}
		}
	}
	return func(c Claim) error {
		c.Options = c.options(r.Policy.Options)
		if conflict := served.Conflict(c); conflict != nil {
			app := conflict.Held.App
			return fmt.Errorf("public port %s (%s) leads to the app %s; use another port, or mend that app, which can't be asked whether it gives it up: %w",
				c.Key, c.Where(), app, r.Unreadable[app].Err)
		}
		for _, app := range names {
			may := r.Unreadable[app]
			if !own[c.Key] && (contains(may.Ports, c.Key.Port) || !may.Known && !isServed[app]) {
				return fmt.Errorf("public port %s (%s) may be one of the app %s, which can't be told; use another port, or mend that app: %w",
					c.Key, c.Where(), app, may.Err)
			}
		}
		return nil
	}
}

// objections are what speaks against claims.
type objections struct {
	list []objection
	told map[Key]bool
}

type objection struct {
	first Key
	err   error
}

// note adds what speaks against a claim, unless something does already.
func (o *objections) note(c Claim, err error) {
	if !o.told[c.Key] {
		o.add(err, c)
	}
}

// add adds what speaks against one or more claims.
func (o *objections) add(err error, claims ...Claim) {
	if o.told == nil {
		o.told = make(map[Key]bool)
	}
	o.list = append(o.list, objection{claims[0].Key, err})
	for _, c := range claims {
		o.told[c.Key] = true
	}
}

// inOrder joins them in the order of their addresses.
func (o *objections) inOrder() error {
	slices.SortStableFunc(o.list, func(x, y objection) int { return x.first.Compare(y.first) })
	errs := make([]error, 0, len(o.list))
	for _, objection := range o.list {
		errs = append(errs, objection.err)
	}
	return errors.Join(errs...)
}
