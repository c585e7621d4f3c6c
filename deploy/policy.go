package deploy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dokku-expose/portsfile"
)

// Policy is what a push may ask for.
type Policy struct {
	// Reserved ports are for nobody, unless Own has them.
	Reserved []portsfile.Range
	// Allowed ports are the only ones that may be had.
	Allowed []portsfile.Range
	// Own are ports that the operator allowed this very app, reserved or not.
	Own []portsfile.Range
	// Names are the server names that may be had; the zero value: any. OwnNames are those that the operator allowed this very app,
	// whoever else has them.
	Names, OwnNames portsfile.ServerNames
	// Bind are the addresses that may be bound; none: any.
	Bind []netip.Prefix
	// Max is how many public ports the app may have.
	Max int
	// ClientCA are the authorities of clients' certificates, see [Route]. A push gets no port that asks for none then.
	ClientCA string
	// Options are what an operator has set for all routes of the app. A push gets what is stricter, its own or these.
	Options Options
}

// Refusal is what the policy does not allow, for one reason.
type Refusal struct {
	// Claims are those that it is about, at least one.
	Claims []Claim
	// Rule is the setting that refuses them.
	Rule string
	// Reason says why, Remedy which command would allow all that the rule refuses.
	Reason, Remedy string
}

// Ports are the public addresses that it is about, shortly: "22, 6000-6010, 127.0.0.1:80".
func (r *Refusal) Ports() string { return PublicPorts(r.Claims) }

func (r *Refusal) Error() string {
	return fmt.Sprintf("public %s %s (%s): %s; %s", plural(len(r.Claims), "port", "ports"), r.Ports(), whereAll(r.Claims), r.Reason, r.Remedy)
}

// WithoutPorts is the refusal for a place that names the ports already.
func (r *Refusal) WithoutPorts() error {
	return fmt.Errorf("%s: %s; %s", whereAll(r.Claims), r.Reason, r.Remedy)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// rules are the settings that refuse, in the order in which they are told.
var rules = []string{"reserved-ports", "allowed-ports", "allowed-hosts", "allow-bind", "allow", "accept-proxy", "client-ca", "max-ports"}

// Check returns what the policy refuses of all that app asks for, one refusal for each rule and reason. To follow the remedies of
// all of them is enough.
func (p Policy) Check(app string, claims []Claim) []*Refusal {
	var refusals []*Refusal
	refuse := func(c Claim, rule, reason string) {
		i := slices.IndexFunc(refusals, func(r *Refusal) bool { return r.Rule == rule && r.Reason == reason })
		if i < 0 {
			i = len(refusals)
			refusals = append(refusals, &Refusal{Rule: rule, Reason: reason})
		}
		refusals[i].Claims = append(refusals[i].Claims, c)
	}
	for i, c := range claims {
		port := c.Key.Port
		switch {
		case p.Excepts(port):
		case contains(p.Reserved, port):
			refuse(c, "reserved-ports", "")
		case !contains(p.Allowed, port):
			refuse(c, "allowed-ports", "")
		}
		if name := c.Key.ServerName; name != "" && p.Names != (portsfile.ServerNames{}) && !p.Names.Cover(name) && !p.OwnNames.Cover(name) {
			refuse(c, "allowed-hosts", "")
		}
		if !p.mayBind(c.Key.IP) {
			refuse(c, "allow-bind", "")
		}
		if rule, reason := c.contradicts(p.Options); rule != "" {
			refuse(c, rule, reason)
		}
		if p.ClientCA != "" && c.pushed() && c.options(p.Options).TLS != TerminateTLS {
			refuse(c, "client-ca", "")
		}
		if i == p.Max {
			refuse(c, "max-ports", fmt.Sprintf("an app may have %d public %s (setting max-ports), and asks for %d", p.Max, plural(p.Max, "port", "ports"), len(claims)))
		}
	}
	slices.SortStableFunc(refusals, func(a, b *Refusal) int { return slices.Index(rules, a.Rule) - slices.Index(rules, b.Rule) })
	refused := make(map[string][]Claim)
	for _, r := range refusals {
		refused[r.Rule] = append(refused[r.Rule], r.Claims...)
	}
	for _, r := range refusals {
		ports := joined(portsOf(r.Claims), ", ")
		are := plural(len(r.Claims), "port "+ports+" is", "ports "+ports+" are")
		switch r.Rule {
		case "reserved-ports":
			r.Reason = are + " reserved on this host (setting reserved-ports)"
		case "allowed-ports":
			r.Reason = are + " not among those that apps may use (setting allowed-ports)"
		case "allowed-hosts":
			r.Reason = strings.Join(namesOf(r.Claims).List(), ", ") + " is not among the host names that apps may use (setting allowed-hosts)"
		case "client-ca":
			r.Reason = "clients need a certificate (setting client-ca), and " + ports + " asks for none without tls=" + string(TerminateTLS)
		case "allow-bind":
			r.Reason = strings.Join(addressesOf(r.Claims), ", ") + " is not among the addresses that apps may bind (setting allow-bind)"
		}
		r.Remedy = p.remedy(app, r.Rule, refused, len(claims))
	}
	return refusals
}

// remedy is the command that would allow all that a rule refuses. What it sets takes the place of what is set: so that is in it,
// too.
func (p Policy) remedy(app, rule string, refused map[string][]Claim, asked int) string {
	claims := refused[rule]
	instead := plural(len(claims), "use another one, or have an operator allow it", "use other ones, or have an operator allow them")
	key, value := rule, ""
	switch rule {
	case "reserved-ports", "allowed-ports":
		// An app's own allowed-ports is the exception from both.
		key = "allowed-ports"
		value = joined(portsfile.Join(slices.Concat(p.Own, portsOf(refused["reserved-ports"]), portsOf(refused["allowed-ports"]))), ",")
	case "allowed-hosts":
		value = p.namesWith(claims)
	case "allow-bind":
		value = p.bindWith(claims)
	case "client-ca":
		instead, value = "add tls="+string(TerminateTLS)+", or have an operator ask clients of this app for none", "none"
	case "max-ports":
		instead, value = "an operator can allow more", strconv.Itoa(asked)
	default:
		return contradictionRemedy(app, rule, p.Options, claims)
	}
	return fmt.Sprintf("%s: dokku expose:set %s %s %s", instead, app, key, value)
}

func portsOf(claims []Claim) []portsfile.Range {
	ranges := make([]portsfile.Range, 0, len(claims))
	for _, c := range claims {
		ranges = append(ranges, portsfile.Range{First: c.Key.Port, Last: c.Key.Port})
	}
	return portsfile.Join(ranges)
}

// PortRanges writes ports in as few ranges as there can be, in ascending order: 40000-40010,50000.
func PortRanges(ports []uint16, separator string) string {
	ranges := make([]portsfile.Range, 0, len(ports))
	for _, p := range ports {
		ranges = append(ranges, portsfile.Range{First: p, Last: p})
	}
	return joined(portsfile.Join(ranges), separator)
}

func joined(ranges []portsfile.Range, separator string) string {
	texts := make([]string, 0, len(ranges))
	for _, r := range ranges {
		texts = append(texts, r.String())
	}
	return strings.Join(texts, separator)
}

// namesOf are the server names of claims.
func namesOf(claims []Claim) portsfile.ServerNames {
	var names []string
	for _, c := range claims {
		if c.Key.ServerName != "" {
			names = append(names, c.Key.ServerName)
		}
	}
	return portsfile.ServerNamesOf(names...)
}

// namesWith is the app's allowed-hosts that has the names of the claims beside those that it has now.
func (p Policy) namesWith(claims []Claim) string {
	return portsfile.ServerNamesOf(append(p.OwnNames.List(), namesOf(claims).List()...)...).String()
}

// bindWith is the allow-bind that has the addresses of the claims beside those that may be bound now.
func (p Policy) bindWith(claims []Claim) string {
	var names []string
	for _, prefix := range p.Bind {
		names = append(names, networkName(prefix))
	}
	asked := addressesOf(claims)
	if slices.Contains(asked, bindName(netip.Addr{})) {
		return bindName(netip.Addr{})
	}
	return strings.Join(append(names, asked...), ",")
}

// addressesOf are the addresses that claims bind, each once.
func addressesOf(claims []Claim) []string {
	var names []string
	for _, c := range claims {
		if name := bindName(c.Key.IP); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Excepts tells whether the operator allowed the app this very port.
func (p Policy) Excepts(port uint16) bool { return contains(p.Own, port) }

func (p Policy) mayBind(ip netip.Addr) bool {
	if len(p.Bind) == 0 {
		return true
	}
	if !ip.IsValid() {
		// Every address of both families: only where every address of both may be bound.
		return p.mayBind(netip.IPv4Unspecified()) && p.mayBind(netip.IPv6Unspecified())
	}
	return slices.ContainsFunc(p.Bind, func(prefix netip.Prefix) bool {
		// 0.0.0.0 and :: are not one address but all of them.
		return prefix.Contains(ip) && (!ip.IsUnspecified() || prefix.Bits() == 0)
	})
}

// bindName is how `allow-bind` writes the address.
func bindName(ip netip.Addr) string {
	if !ip.IsValid() {
		return "any"
	}
	return ip.String()
}

func contains(ranges []portsfile.Range, port uint16) bool {
	return slices.ContainsFunc(ranges, func(r portsfile.Range) bool { return r.Contains(port) })
}
