package command

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
)

// soon is how long before its end a certificate is told of: letsencrypt renews those that end in less than a month.
const soon = 14 * 24 * time.Hour

// checkCertificates looks for certificates that have ended or are about to, or are for other names. Those that can't be served are problems of
// the plan. Of the ports in refused it is known that they ask clients for no certificate.
func checkCertificates(h *host.Host, apps []deploy.App, table deploy.Table, refused map[deploy.Key]bool, note func(app, public string, err error)) {
	leaves, certifies := h.Leaves(), make(map[string]bool)
	for i := range apps {
		certifies[apps[i].Name] = apps[i].ClientCA != ""
	}
	for _, r := range table.Routes {
		if r.Options.TLS != deploy.TerminateTLS {
			if certifies[r.App] && !refused[r.Key] {
				note(r.App, r.Key.String(), fmt.Errorf("it asks clients for no certificate, whatever the setting client-ca says, because its TLS does not end here; "+
					"add tls=%s to the mapping, or say that none is needed: dokku expose:set %s client-ca %s", deploy.TerminateTLS, r.App, settings.NoFile))
			}
			continue
		}
		leaf := leaves(r.App)
		if leaf.Certificate == nil {
			continue
		}
		end := leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST")
		renew := fmt.Sprintf("renew it: dokku letsencrypt:enable %s, or dokku certs:add %s CRT KEY", leaf.Owner, leaf.Owner)
		// A certificate for any one label is one for a label that nobody has.
		if name := strings.Replace(r.Key.ServerName, "*", "any", 1); name != "" && leaf.VerifyHostname(name) != nil {
			note(r.App, r.Key.String(), fmt.Errorf("its certificate is not for %s but for %s; give %s one that is: dokku letsencrypt:enable %s, or dokku certs:add %s CRT KEY",
				r.Key.ServerName, cmp.Or(strings.Join(leaf.DNSNames, ", "), "no name"), leaf.Owner, leaf.Owner, leaf.Owner))
		}
		switch left := time.Until(leaf.NotAfter); {
		case left <= 0:
			note(r.App, r.Key.String(), fmt.Errorf("its certificate has ended on %s; %s", end, renew))
		case left < soon:
			note(r.App, r.Key.String(), fmt.Errorf("its certificate ends on %s, in %d days; %s", end, int(left.Hours()/24), renew))
		}
	}
}

// checkEntryCertificates looks for ports whose TLS ends here, and that entry hosts should have. These have no certificate.
func checkEntryCertificates(h *host.Host, apps []deploy.App, note func(app, public string, err error)) {
	if entries, err := h.Entries(); entries == nil || err != nil {
		return // An error is told of the entry hosts.
	}
	for i := range apps {
		claims := slices.DeleteFunc(apps[i].Effective(), func(c deploy.Claim) bool { return c.Options.TLS != deploy.TerminateTLS })
		if apps[i].Pods && len(claims) > 0 {
			note(apps[i].Name, deploy.PublicPorts(claims), fmt.Errorf("entry hosts have no certificate, so there it is closed; have the app end TLS itself (tls=%s, or off)", deploy.PassTLS))
		}
	}
}
