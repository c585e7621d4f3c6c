package deploy

import "slices"

// Planned is what an engine is to be given.
type Planned struct {
	// Table is what is to be served.
	Table Table
	// Problems keep the table from being what was asked for.
	Problems []*Problem
	// Ask are the addresses without evidence that the table depends on: until these are asked there is no table.
	Ask []Target
}

// Plan makes the table that apps and containers ask for. A container that does not accept connections never replaces one that does and
// is still the app's. Plan reads nothing and asks nobody.
//
// An app whose source is not fresh may only lose servers: see [Trust].
func Plan(s Snapshot, ev Evidence) Planned {
	b := newBuilder(s, ev)
	drafts := b.drafts()
	if ask := b.prove(drafts); len(ask) > 0 {
		return Planned{Ask: ask}
	}
	var table Table
	for _, d := range drafts {
		table.Routes = append(table.Routes, b.route(d))
	}
	table.sort()
	b.outages(table)
	return Planned{Table: table, Problems: b.problems}
}

// First is what goes before a plan is made and anybody is asked, nil where nothing has to: the table that is served now, without the
// servers that no container stands behind. Their addresses may be another app's in a moment, and one that is gone may not answer a probe
// for long.
func First(s Snapshot) *Table {
	if !newBuilder(s, nil).servesUnconfirmed() {
		return nil
	}
	table := confirmed(s)
	return &table
}

// confirmed is what is served now, as far as it is to go on and the sources still vouch for the servers; nothing of it is new.
func confirmed(s Snapshot) Table { return Plan(s.doubted(), nil).Table }

// Loss is what is known to be gone, without anybody having been asked for more.
type Loss struct {
	// Gone are addresses that accept no connections any more.
	Gone []Address
	// Died are the ids of containers that have died since the snapshot's were told.
	Died []string
}

// Reduce makes what is served less by a loss; nil where nothing is to change. It is for whatever is not as sure as Plan wants it: it
// never adds a server, and opens a port only where nothing is served at all, with connections held.
func Reduce(s Snapshot, loss Loss) *Table {
	// Where something is served that is none of the containers these are out of date, and a reconcile has to find out. Whom the engine itself
	// knows to have died is gone all the same: its address may be another one's before the reconcile is done.
	if len(loss.Gone) == 0 && !s.anyFresh() && confirmed(s).lacks(s.Serving) {
		return alive(s, loss.Died)
	}
	table := confirmed(s.without(loss.Died))
	for i := range table.Routes {
		r := &table.Routes[i]
		isGone := func(s Server) bool { return slices.Contains(loss.Gone, Address{r.Key.Proto, s.Addr}) }
		r.Servers, r.Former = slices.DeleteFunc(r.Servers, isGone), slices.DeleteFunc(r.Former, isGone)
	}
	if !table.lacks(s.Serving) && (len(s.Serving) > 0 || len(table.Routes) == 0) {
		return nil
	}
	return &table
}

// alive is what is served but for the servers that are containers which have died; nil where none is.
func alive(s Snapshot, died []string) *Table {
	table, n := inService(s, func(string, Key) bool { return true }), 0
	for i := range table.Routes {
		hasDied := func(server Server) bool {
			for _, state := range s.Serving[table.Routes[i].Key].Servers {
				if state.Addr == server.Addr && slices.Contains(died, state.Container) {
					n++
					return true
				}
			}
			return false
		}
		r := &table.Routes[i]
		r.Servers, r.Former = slices.DeleteFunc(r.Servers, hasDied), slices.DeleteFunc(r.Former, hasDied)
	}
	if n == 0 {
		return nil
	}
	return &table
}

// Without is what is served but for the addresses that are given up; nil where none of them is served. All else stays as it is served,
// whatever can be read of its settings.
func Without(s Snapshot, givenUp func(app string, f Key) bool) *Table {
	table := inService(s, func(app string, f Key) bool { return !givenUp(app, f) })
	if len(table.Routes) == len(s.Serving) {
		return nil
	}
	return &table
}

// inService is what is served of the addresses that stay.
func inService(s Snapshot, stays func(app string, f Key) bool) Table {
	var table Table
	for frontend, state := range s.Serving {
		if !stays(state.App, frontend) {
			continue
		}
		app := App{Name: state.App}
		if i := slices.IndexFunc(s.Apps, func(a App) bool { return a.Name == state.App }); i >= 0 {
			app = s.Apps[i]
		}
		r := app.route(state.Process, frontend, state.Options, state.ClientCA)
		r.Servers, r.Former = serversAt(state.All()), serversAt(state.Former())
		table.Routes = append(table.Routes, r)
	}
	table.sort()
	return table
}
