package deploy

import (
	"context"
	"slices"
	"time"
)

// Place is one slot of a scaled process type, and the container that Dokku has put there.
type Place struct {
	// Process is the process type: "web".
	Process string `json:"process"`
	// Dyno is Dokku's name for the place: "web.1".
	Dyno string `json:"dyno"`
	// Container is the full id of the container.
	Container string `json:"container"`
}

// App is what Dokku and the operator want for one app.
type App struct {
	Name string
	// Source is the name of the source that knows the app's endpoints.
	Source string
	// Pods tells that these are pods.
	Pods bool
	// Left is the source of the scheduler that the app was on before, whose endpoints may serve until the new one has some; "" for none.
	Left string
	// Err tells that something of the app's own can't be read (its settings, its PORTS). What it has keeps running as it
	// is; nothing new is done for it.
	Err error
	// Off is why the app is to have no routes at all: "stopped", "disabled", or "" when it is to have them.
	Off string
	// Operator are the claims of `expose:add`. They go for containers of any image.
	Operator []Claim
	// Images are the claims of the PORTS file that belongs to each image, by image id.
	Images map[string][]Claim
	// Current is the id of the image whose PORTS was in force last; it counts for as long as no container tells better.
	Current string
	// Places are the containers that Dokku's CONTAINER files name. Of pods there are no such files.
	Places []Place
	// Deploying is the deploy of the app that is on its way, or nil. While there is one, the containers that were there
	// when it began go on serving: the switch is its last step.
	Deploying *Deployment

	// Certificate is what clients of its routes with TLS are shown, CertificateErr why it has none that could be.
	Certificate    Certificate
	CertificateErr error
	// ClientCA are the authorities of its clients' certificates, see [Route].
	ClientCA string

	Upstream Upstream
	// Options are what an operator has set for all routes of the app.
	Options Options
	// Hold, HealthCheck, CutOld and HalfClosed are those of the app's routes.
	Hold, HealthCheck, CutOld, HalfClosed time.Duration
}

// SetAs gives the app the settings of another one, all of them.
func (a *App) SetAs(o App) {
	a.Upstream, a.Options, a.ClientCA = o.Upstream, o.Options, o.ClientCA
	a.Hold, a.HealthCheck, a.CutOld, a.HalfClosed = o.Hold, o.HealthCheck, o.CutOld, o.HalfClosed
}

// Deployment is a deploy on its way.
type Deployment struct {
	// Before are the app's places when it began.
	Before []Place
	// Former is the app's name when the containers of Before were created, "" for the same one: what Dokku deploys is then
	// the last part of a rename.
	Former string
	// Retired are ids of containers that Dokku is about to stop: they get no new connection.
	Retired []string
	// Pending are the claims of the PORTS that it brings. They hold their addresses against other apps until it ends.
	Pending []Claim
}

// Host tells what Dokku and the operator want. It is asked anew for each reconcile.
type Host interface {
	// Apps returns all apps that have claims, or an error of their own (see App.Err). An error of the call itself means
	// that nothing can be known, and nothing is changed then.
	Apps(ctx context.Context) ([]App, error)
}

// Claims are all that the app holds against others: what the PORTS in force and its operator ask for, and what a deploy
// on its way brings. PORTS of images that were never switched to hold nothing.
func (a App) Claims() []Claim {
	claims := append([]Claim(nil), a.Operator...)
	claims = append(claims, a.Images[a.Current]...)
	if a.Deploying != nil {
		claims = append(claims, a.Deploying.Pending...)
	}
	return claims
}

// Involved tells whether the app has, or may have, anything to do with public ports.
func (a App) Involved() bool {
	return a.Err != nil || len(a.Operator) > 0 || len(a.Images) > 0 || a.Deploying != nil
}

// Needs tells whether a source may have endpoints of the app.
func (a App) Needs(source string) bool { return source == a.Source || source == a.Left && a.Left != "" }

// trust says how far the sources' word on the app's endpoints can be relied on.
func (a *App) trust(sources map[string]Listing) Trust {
	trust := sources[a.Source].Trust
	if a.Left != "" {
		trust = min(trust, sources[a.Left].Trust)
	}
	return trust
}

// goesBy tells whether name is the app's, or its former one in the midst of a rename. Docker and the engine know by that
// what was created before.
func (a *App) goesBy(name string) bool {
	return name == a.Name || a.Deploying != nil && name != "" && name == a.Deploying.Former
}

// mayAsk tells whether the app may ask for a public address: one that no claim of it names is certainly not asked for. Of an app whose
// files can't be read all are asked for, and so is what any image of an app claims, since only its source knows which images are in
// force.
func (a *App) mayAsk(f Key) bool {
	return a.Err != nil || a.anyClaim(func(c Claim) bool { return c.Key == f })
}

// anyClaim tells whether something is true of a claim of the app, or of one of any of its images.
func (a *App) anyClaim(is func(Claim) bool) bool {
	if slices.ContainsFunc(a.Claims(), is) {
		return true
	}
	for _, ofImage := range a.Images {
		if slices.ContainsFunc(ofImage, is) {
			return true
		}
	}
	return false
}

// Taken collects what all apps but the one called except hold.
func Taken(apps []App, except string) *Holders {
	var h Holders
	for i := range apps {
		if apps[i].Name != except {
			h.Add(apps[i].Effective()...)
		}
	}
	return &h
}

// Effective are the app's claims with the options that their routes have.
func (a *App) Effective() []Claim {
	claims := a.Claims()
	for i := range claims {
		claims[i].Options = claims[i].options(a.Options)
	}
	return claims
}

// route is one of the app's routes, without servers. What is kept as it is served may have another clientCA than the app.
func (a *App) route(process string, listen Key, options Options, clientCA string) Route {
	r := Route{
		App: a.Name, Process: process, Key: listen, Options: options,
		Hold: a.Hold, HealthCheck: a.HealthCheck, CutOld: a.CutOld, HalfClosed: a.HalfClosed,
	}
	if options.Check == NoCheck {
		r.HealthCheck = 0
	}
	if options.TLS == TerminateTLS {
		r.Certificate, r.ClientCA = a.Certificate, clientCA
	}
	return r
}
