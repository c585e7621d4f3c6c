package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
)

// finding is something that is not as it should be.
type finding struct {
	// App is "" for what is about the whole host.
	App string `json:"app"`
	// Public is the public port, "" for what is about the whole app.
	Public string `json:"public"`
	// Message says what is wrong and what to do.
	Message string `json:"message"`
	// Level is "remark" where nothing is wrong.
	Level string `json:"level,omitempty"`
}

const remark = "remark"

// allRemarks tells whether nothing is wrong.
func allRemarks(findings []finding) bool {
	return !slices.ContainsFunc(findings, func(f finding) bool { return f.Level != remark })
}

func (f finding) String() string {
	parts := []string{f.App, "public port " + f.Public, f.Message}
	if f.Public == "" {
		parts[1] = ""
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

var checkCommand = command{
	args: "[<app>] [--format stdout|json]",
	text: "Tells what is wrong with public ports and what to do",
	more: `
It changes nothing. The exit code is 1 when anything is wrong, and not for a remark: what the other engine does
otherwise, or a mistake of this release of HAProxy that costs no connection.

  dokku expose:check
  dokku expose:check mail`,
	flags: formatFlag,
	run: func(ctx context.Context, h *host.Host, call call) error {
		format, err := call.format()
		if err != nil {
			return err
		}
		apps, err := takeApps(h, "check", call.args)
		if err != nil {
			return err
		}
		findings := slices.DeleteFunc(check(ctx, h), func(f finding) bool {
			return f.App != "" && !slices.Contains(apps, f.App)
		})
		if format == "json" {
			err = writeJSON(h.Stdout, findings)
		} else {
			for _, f := range findings {
				if f.Level == remark {
					h.Out.Step("%s", f)
				} else {
					h.Out.Warn("%s", f)
				}
			}
			concerned := slices.DeleteFunc(apps, func(app string) bool { return !h.Concerns(app) })
			switch {
			case !allRemarks(findings):
			case len(concerned) == 0:
				h.Out.Step("Nothing is wrong, and no public ports are asked for")
			default:
				h.Out.Step("Nothing is wrong with the public ports of %s", strings.Join(concerned, ", "))
			}
		}
		if err == nil && !allRemarks(findings) {
			err = &dokku.ExitError{Code: 1}
		}
		return err
	},
}

// check looks at everything that public ports need.
func check(ctx context.Context, h *host.Host) []finding {
	findings := []finding{} // none is an empty list in JSON, not null
	note := func(app, public string, err error) {
		if err != nil {
			findings = append(findings, finding{App: app, Public: public, Message: err.Error()})
		}
	}
	unadopted, err := h.Unadopted(ctx)
	note("", "", err)
	for _, app := range unadopted {
		note(app, "", fmt.Errorf("it has a PORTS that no deploy has brought into force, since the plugin was installed after the last one, or that one failed; run: dokku ps:rebuild %s", app))
	}
	apps, err := h.Apps(ctx)
	note("", "", err)
	used := slices.ContainsFunc(apps, func(a deploy.App) bool { return len(a.Claims()) > 0 })
	if err != nil || !used {
		return findings
	}
	refused := make(map[deploy.Key]bool)
	for i := range apps {
		for _, c := range checkClaims(h, &apps[i], note) {
			refused[c.Key] = true
		}
		checkClientAddress(h, &apps[i], note)
	}
	for _, err := range checkEntries(ctx, h) {
		note("", "", err)
	}
	checkEntryCertificates(h, apps, note)
	proxies, err := h.Env.ProxyPorts()
	note("", "", err)
	for i := range apps {
		checkProxies(&apps[i], proxies, note)
	}

	w, err := h.Wire()
	if err != nil {
		note("", "", err)
		return findings
	}
	reconciler, err := w.Reconciler(false)
	if err != nil {
		note("", "", err)
		return findings
	}
	engine, err := w.Engine()
	if err != nil {
		note("", "", err)
		return findings
	}
	before, askedErr := engine.Observe(ctx, deploy.Health)
	note("", "", askedErr)
	for _, w := range before.Wrong {
		note("", "", w)
	}
	if engine.Name() != settings.Builtin {
		note("", "", checkDaemon(ctx, w.Builtin(false)))
	}
	table, problems, err := reconciler.Preview(ctx)
	note("", "", err)
	problems, lackErr := host.WithPortLacks(problems, table.Routes)
	note("", "", lackErr)
	h.Explain(ctx, problems)
	for _, p := range problems {
		note(p.App, p.Ports(), p.Err)
	}
	checkCertificates(h, apps, table, refused, note)
	if askedErr == nil && err == nil && before.Running {
		// Asked anew: the engine may have found servers down since.
		o, err := engine.Observe(ctx, deploy.Health)
		if err != nil {
			note("", "", err)
			return findings
		}
		checkServed(ctx, h, apps, table, o.Serving(), note)
		checkAccepting(ctx, table, note)
		checkListeners(o, note)
		for _, r := range o.Remarks {
			findings = append(findings, finding{App: r.App, Public: r.Ports(), Message: r.Err.Error(), Level: remark})
		}
	}
	return findings
}

// checkDaemon looks at the daemon where it is not the engine.
func checkDaemon(ctx context.Context, e deploy.Engine) error {
	o, err := e.Observe(ctx, deploy.Health)
	if err == nil && !o.Running {
		return errors.New("the daemon of dokku-expose does not run, so ports do not follow containers that restart; start it: systemctl start dokku-expose (runit: sv start dokku-expose)")
	}
	return errors.Join(err, errors.Join(o.Wrong...))
}

// checkAccepting asks the containers that are served; of the others the plan tells.
func checkAccepting(ctx context.Context, table deploy.Table, note func(app, public string, err error)) {
	// Not those that the engine serves by now: one may have gone down since the table was made of what was served.
	var addrs []deploy.Address
	for _, r := range table.Routes {
		if r.Options.Check == deploy.NoCheck {
			continue
		}
		for _, s := range r.Servers {
			addrs = append(addrs, deploy.Address{Proto: r.Key.Proto, AddrPort: s.Addr})
		}
	}
	failed := deploy.Listening(ctx, addrs)
	for _, r := range table.Routes {
		for _, s := range r.Servers {
			err := failed[deploy.Address{Proto: r.Key.Proto, AddrPort: s.Addr}]
			if _, lack := deploy.HostLack(err); lack {
				err = nil // It is told already.
			}
			if err != nil {
				note(r.App, r.Key.String(), fmt.Errorf("%s (%.12s) does not accept connections: %w; see dokku logs %s", s.Dyno, s.Container, err, r.App))
			}
		}
	}
}

// checkClaims looks at what an app asks for, and returns the claims that the setting client-ca refuses.
func checkClaims(h *host.Host, a *deploy.App, note func(app, public string, err error)) (uncertified []deploy.Claim) {
	values, err := h.Settings.Effective(a.Name)
	if err != nil {
		return nil // The app's Err says so.
	}
	if err := h.DrainsInVain(a.Name, values); err != nil {
		note(a.Name, "", err)
	}
	for _, refusal := range values.Policy.Check(a.Name, a.Claims()) {
		note(a.Name, refusal.Ports(), refusal.WithoutPorts())
		if refusal.Rule == "client-ca" {
			uncertified = append(uncertified, refusal.Claims...)
		}
	}
	return uncertified
}

// checkProxies looks for public ports that a proxy of Dokku's maps as well.
func checkProxies(a *deploy.App, proxies []dokku.ProxyPort, note func(app, public string, err error)) {
	for _, c := range a.Claims() {
		for _, p := range proxies {
			if p.Host == c.Key.Port {
				note(a.Name, c.Key.String(), host.ProxyConflict(p))
			}
		}
	}
}

// checkServed compares what should be served with what is.
func checkServed(ctx context.Context, h *host.Host, apps []deploy.App, table deploy.Table, serving map[deploy.Key]deploy.RouteState, note func(app, public string, err error)) {
	for _, r := range table.Routes {
		service, listening := serving[r.Key]
		switch {
		case !listening:
			note(r.App, r.Key.String(), whyClosed(ctx, h, claimOf(apps, r)))
		case service.App != r.App:
			note(r.App, r.Key.String(), fmt.Errorf("it leads to the app %s; run: dokku expose:sync", service.App))
		default:
			for _, s := range r.Servers {
				// An unproven one is in the table for a lack of this host's, which is told already.
				if s.Proven && !slices.Contains(service.Addresses(true), s.Addr) {
					note(r.App, r.Key.String(), fmt.Errorf("%s (%.12s) at %s gets no connections; run: dokku expose:sync", s.Dyno, s.Container, s.Addr))
				}
			}
			for _, addr := range service.Addresses(true) {
				if !slices.ContainsFunc(r.Servers, func(s deploy.Server) bool { return s.Addr == addr }) {
					note(r.App, r.Key.String(), fmt.Errorf("it leads to %s too, where no container of it is to serve; run: dokku expose:sync", addr))
				}
			}
		}
	}
	for _, listen := range slices.SortedFunc(maps.Keys(serving), deploy.Key.Compare) {
		service := serving[listen]
		if !slices.ContainsFunc(table.Routes, func(r deploy.Route) bool { return r.Key == listen }) {
			note(service.App, listen.String(), errors.New("it is open, and nobody asks for that any more; run: dokku expose:sync"))
		}
	}
}

// claimOf is the claim that a route comes from.
func claimOf(apps []deploy.App, r deploy.Route) deploy.Claim {
	for i := range apps {
		if apps[i].Name != r.App {
			continue
		}
		claims := apps[i].Claims()
		for _, ofImage := range apps[i].Images {
			claims = append(claims, ofImage...)
		}
		if at := slices.IndexFunc(claims, func(c deploy.Claim) bool { return c.Key == r.Key }); at >= 0 {
			return claims[at]
		}
	}
	return deploy.Claim{App: r.App, Key: r.Key}
}

// whyClosed says why nobody serves a claim.
func whyClosed(ctx context.Context, h *host.Host, claim deploy.Claim) error {
	w, err := h.Wire()
	if err != nil {
		return err
	}
	engine, serving, err := w.Serving(ctx)
	if err != nil {
		return err
	}
	r := deploy.Request{App: claim.App, Claims: []deploy.Claim{claim}, Serving: serving}
	if err := w.LookAround(ctx, engine, &r); err != nil {
		return err
	}
	reason := r.OnHost(claim)
	if reason == nil {
		reason = errors.New("nobody listens on it; run: dokku expose:sync")
	}
	return fmt.Errorf("%s: %w", claim.Where(), reason)
}
