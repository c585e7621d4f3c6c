package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dokku-expose/deploy"
)

// Passing tells whether a problem is to be told, but is no failure: a container of a deploy without checks that is slow to
// start, whose connections are held, one that this host lacks something to connect to, one that serves at its former kind of address until
// the next deploy, ports that no container serves, and those that wait for a certificate.
func Passing(p *deploy.Problem) bool {
	var outage *deploy.Outage
	return errors.As(p, &outage) || errors.Is(p, deploy.ErrNotAccepting) || errors.Is(p, deploy.ErrHostLack) || errors.Is(p, deploy.ErrAddressKept) || errors.Is(p, deploy.ErrUnended) ||
		errors.Is(p, deploy.ErrNoCertificate) || errors.Is(p, deploy.ErrCertificate)
}

// Failures are the problems of apps that mean that something was not switched.
func Failures(outcome deploy.Outcome, apps ...string) error {
	var errs []error
	for _, app := range apps {
		_, problems := outcome.Of(app)
		for _, p := range problems {
			if !Passing(p) {
				errs = append(errs, p)
			}
		}
	}
	return errors.Join(errs...)
}

// Tell prints which public ports of an app lead where now.
func (h *Host) Tell(outcome deploy.Outcome, app string) {
	routes, problems := outcome.Of(app)
	for _, p := range problems {
		if Passing(p) {
			h.Out.Warn("%s", p.Error())
		}
	}
	entries, err := h.Entries()
	if err != nil {
		h.Out.Warn("%v", err)
	}
	onEntries := entries != nil && slices.ContainsFunc(outcome.Apps, func(a deploy.App) bool { return a.Name == app && a.Pods && len(a.Claims()) > 0 })
	if len(routes) == 0 {
		if onEntries {
			h.Out.Step("Public ports of %s are served by the entry hosts of the cluster", app)
		}
		return
	}
	h.Out.Step("Public ports of %s", app)
	if onEntries {
		h.Out.Detail("The entry hosts of the cluster serve them, too")
	}
	for _, line := range summary(routes) {
		h.Out.Detail("%s", line)
	}
	if outcome.Applied.Reload != "" {
		h.Out.Detail("HAProxy was reloaded: %s", outcome.Applied.Reload)
	}
}

// summary writes routes shortly, those with the same containers on one line.
func summary(routes []deploy.Route) []string {
	var (
		order []string
		from  = make(map[string][]deploy.Key)
	)
	for _, r := range routes {
		to := "no container; new connections are held"
		if len(r.Servers) > 0 {
			var servers []string
			for _, s := range r.Servers {
				servers = append(servers, fmt.Sprintf("%s (%.12s)", s.Dyno, s.Container))
			}
			to = strings.Join(servers, ", ")
		}
		if from[to] == nil {
			order = append(order, to)
		}
		from[to] = append(from[to], r.Key)
	}
	var lines []string
	for _, to := range order {
		lines = append(lines, deploy.PublicAddresses(from[to])+" -> "+to)
	}
	return lines
}
