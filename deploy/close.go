package deploy

import "slices"

// unasked tells which addresses that an app is served at are asked for by nobody any more: those of apps that are off or gone, and
// those that no claim names. Of an app whose files can't be read all are asked for, and so is what any image of an app claims, since
// only Docker knows which images are in force.
func unasked(apps []App) func(app string, l Listen) bool {
	type address struct {
		app    string
		listen Listen
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
			asked[address{a.Name, c.Listen}] = true
		}
	}
	return func(app string, l Listen) bool { return !all[app] && !asked[address{app, l}] }
}

// withoutGone is what is served now but for the addresses that are gone. All else stays as it is served, the options too.
func withoutGone(apps []App, serving map[Listen]Service, gone func(app string, l Listen) bool) Table {
	var table Table
	for listen, service := range serving {
		if gone(service.App, listen) {
			continue
		}
		app := App{Name: service.App}
		if i := slices.IndexFunc(apps, func(a App) bool { return a.Name == service.App }); i >= 0 {
			app = apps[i]
		}
		r := app.route(service.Process, listen, service.Options)
		for _, addr := range service.all() {
			r.Servers = append(r.Servers, Server{Addr: addr})
		}
		table.Routes = append(table.Routes, r)
	}
	table.sort()
	return table
}
