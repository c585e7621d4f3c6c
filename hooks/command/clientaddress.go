package command

import (
	"fmt"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
)

// addressTrusting are ports of protocols whose servers commonly trust clients by their addresses: mail relays, databases,
// caches and directories.
var addressTrusting = []uint16{25, 389, 465, 587, 1433, 3306, 5432, 6379, 11211, 27017}

// checkClientAddress looks for ports on which an app may trust the whole world, since all clients seem to come from this host.
// An operator, or the PORTS, that says proxy-protocol or allow has thought of it.
func checkClientAddress(h *host.Host, a *deploy.App, note func(app, public string, err error)) {
	if a.Off != "" || a.Err != nil || !a.Options.Allow.IsZero() {
		return
	}
	explained, err := h.Settings.Explain(a.Name)
	if err != nil || slices.ContainsFunc(explained, func(e settings.Explained) bool {
		return e.Key.Name == "proxy-protocol" && e.Origin != settings.FromDefault
	}) {
		return // What is wrong with the settings is told of them.
	}
	claims := slices.DeleteFunc(a.Claims(), func(c deploy.Claim) bool {
		trusting := slices.Contains(addressTrusting, c.Key.Port) || slices.Contains(addressTrusting, c.Private)
		return !trusting || c.Key.IP.IsLoopback() || c.Options.ProxyProtocol != "" || !c.Options.Allow.IsZero()
	})
	if len(claims) == 0 {
		return
	}
	note(a.Name, deploy.PublicPorts(claims), fmt.Errorf("the app takes this host for every client: whatever trusts Docker's network (mynetworks of Postfix, trust in pg_hba.conf) trusts the whole world, and a limit for each address meets all clients at once; "+
		"tell it the clients' addresses, if it understands the PROXY protocol (dokku expose:set %s proxy-protocol %s), or let in only those that you know (dokku expose:set %s allow NETWORK,...), or have the app itself trust no address, and say so (dokku expose:set %s proxy-protocol %s)",
		a.Name, deploy.ProxyV2, a.Name, a.Name, deploy.NoProxyHeader))
}
