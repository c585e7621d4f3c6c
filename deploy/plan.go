package deploy

import (
	"net/netip"
	"slices"
)

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
// is still the app's. Plan reads nothing and asks nobody: its snapshot is fresh.
func Plan(s Snapshot, ev Evidence) Planned {
	b := newBuilder(s, ev)
	drafts := b.drafts()
	if ask := b.prove(drafts); len(ask) > 0 {
		return Planned{Ask: ask}
	}
	table := b.table(drafts, b.route)
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

// Loss is what is known to be gone, without anybody having been asked for more.
type Loss struct {
	// Gone are addresses that accept no connections any more.
	Gone []netip.AddrPort
	// Died are the ids of containers that have died since the snapshot's were told.
	Died []string
	// GivenUp tells which addresses an app gives up. With Reset all others get the options that go for them now, which Docker has
	// nothing to do with: who may connect, for one.
	GivenUp func(app string, l Frontend) bool
	Reset   bool
}

// Reduce makes what is served less by a loss; nil where nothing is to change. It is for whatever is not as sure as Plan wants it: it
// never adds a server, and opens a port only where nothing is served at all, with connections held.
func Reduce(s Snapshot, loss Loss) *Table {
	var table Table
	switch {
	case loss.GivenUp != nil:
		table = withoutGivenUp(s, loss)
		if !slices.ContainsFunc(table.Routes, func(r Route) bool { return r.Options != s.Serving[r.Frontend].Options }) && len(table.Routes) == len(s.Serving) {
			return nil
		}
	case loss.Died != nil:
		// Where something is served that is none of the containers these are out of date, and a reconcile has to find out.
		if confirmed(s).lacks(s.Serving) {
			return nil
		}
		s.Endpoints = slices.DeleteFunc(slices.Clone(s.Endpoints), func(c Endpoint) bool { return slices.Contains(loss.Died, c.ID) })
		if table = confirmed(s); !table.lacks(s.Serving) {
			return nil
		}
	case s.Trust == Fresh:
		if table = confirmed(s); !table.lacks(s.Serving) {
			return nil
		}
	case len(s.Serving) == 0:
		if table = unserved(s); len(table.Routes) == 0 {
			return nil
		}
	case len(loss.Gone) == 0:
		return nil
	default:
		table = confirmed(s)
		if s.Trust == None {
			// Nobody has been vouched for, so nobody is the worse for it.
			table = asServed(s)
		}
		for i := range table.Routes {
			servers := &table.Routes[i].Servers
			*servers = slices.DeleteFunc(*servers, func(s Server) bool { return slices.Contains(loss.Gone, s.Addr) })
		}
	}
	return &table
}

// confirmed is what is served now, as far as it is to go on and containers still stand behind the servers; nothing of it is new.
func confirmed(s Snapshot) Table {
	b := newBuilder(s, nil)
	return b.table(b.servedDrafts(), func(d *draft) Route {
		r := d.newRoute()
		r.Servers = b.stillOwn(d.app, s.Serving[r.Frontend])
		for i := range r.Servers {
			r.Servers[i].Proven = s.Serving[r.Frontend].carried(r.App, r.Servers[i].Addr)
		}
		return r
	})
}

// asServed is what is served now, as far as it is to go on, whosever the servers are.
func asServed(s Snapshot) Table {
	b := newBuilder(Snapshot{Apps: s.Apps, Serving: s.Serving}, nil)
	return b.table(b.servedDrafts(), func(d *draft) Route {
		r := d.newRoute()
		for _, addr := range s.Serving[r.Frontend].All() {
			r.Servers = append(r.Servers, Server{Addr: addr, Proven: s.Serving[r.Frontend].carried(r.App, addr)})
		}
		return r
	})
}

// unserved is the table that apps ask for, without a server: what there is to do while nothing is known of containers.
func unserved(s Snapshot) Table {
	b := newBuilder(Snapshot{Apps: s.Apps}, nil)
	return b.table(b.drafts(), (*draft).newRoute)
}

// withoutGivenUp is what is served now but for the addresses that are given up. All else stays as it is served, the options too unless
// they are to be reset.
func withoutGivenUp(s Snapshot, loss Loss) Table {
	options := make(map[Frontend]Options)
	if loss.Reset {
		for _, d := range newBuilder(Snapshot{Apps: s.Apps, Serving: s.Serving}, nil).servedDrafts() {
			options[d.claim.Frontend] = d.options
		}
	}
	var table Table
	for listen, service := range s.Serving {
		if loss.GivenUp(service.App, listen) {
			continue
		}
		if o, ok := options[listen]; ok {
			service.Options = o
		}
		app := App{Name: service.App}
		if i := slices.IndexFunc(s.Apps, func(a App) bool { return a.Name == service.App }); i >= 0 {
			app = s.Apps[i]
		}
		r := app.route(service.Process, listen, service.Options)
		for _, addr := range service.All() {
			r.Servers = append(r.Servers, Server{Addr: addr})
		}
		table.Routes = append(table.Routes, r)
	}
	table.sort()
	return table
}

// unasked tells which addresses that an app is served at are asked for by nobody any more: those of apps that are off or gone, and
// those that no claim names. Of an app whose files can't be read all are asked for, and so is what any image of an app claims, since
// only Docker knows which images are in force.
func unasked(apps []App) func(app string, l Frontend) bool {
	type address struct {
		app    string
		listen Frontend
	}
	all := make(map[string]bool)
	asked := make(map[address]bool)
	for i := range apps {
		a := &apps[i]
		if a.Off != "" {
			continue
		}
		all[a.Name] = a.Err != nil
		claims := a.Claims()
		for _, ofImage := range a.Images {
			claims = append(claims, ofImage...)
		}
		for _, c := range claims {
			asked[address{a.Name, c.Frontend}] = true
		}
	}
	return func(app string, l Frontend) bool { return !all[app] && !asked[address{app, l}] }
}
