package deploy

import (
	"fmt"
	"net/netip"
	"slices"

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
	// Bind are the addresses that may be bound; none: any.
	Bind []netip.Prefix
	// Max is how many public ports the app may have.
	Max int
	// Options are what an operator has set for all routes of the app. A push gets what is stricter, its own or these.
	Options portsfile.Options
}

// Refusal is a claim that the policy does not allow.
type Refusal struct {
	Claim Claim
	// Rule is the setting that refuses it.
	Rule string
	// Reason says why, Remedy which command would allow it.
	Reason, Remedy string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("public port %s (%s): %s; %s", r.Claim.Listen, r.Claim.Where(), r.Reason, r.Remedy)
}

// Check returns what the policy refuses of all that app asks for, one refusal for each claim at the most.
func (p Policy) Check(app string, claims []Claim) []*Refusal {
	var refusals []*Refusal
	refuse := func(c Claim, rule, reason, remedy string) {
		refusals = append(refusals, &Refusal{Claim: c, Rule: rule, Reason: reason, Remedy: remedy})
	}
	for i, c := range claims {
		port := c.Listen.Port
		own := p.Excepts(port)
		switch {
		case i >= p.Max:
			refuse(c, "max-ports", fmt.Sprintf("an app may have %d public ports (setting max-ports)", p.Max),
				fmt.Sprintf("an operator can allow more: dokku expose:set %s max-ports %d", app, len(claims)))
			return refusals
		case contains(p.Reserved, port) && !own:
			refuse(c, "reserved-ports", fmt.Sprintf("port %d is reserved on this host (setting reserved-ports)", port),
				fmt.Sprintf("use another one, or have an operator allow it: dokku expose:set %s allowed-ports %d", app, port))
		case !contains(p.Allowed, port) && !own:
			refuse(c, "allowed-ports", fmt.Sprintf("port %d is not among those that apps may use (setting allowed-ports)", port),
				fmt.Sprintf("use another one, or have an operator allow it: dokku expose:set %s allowed-ports %d", app, port))
		case !p.mayBind(c.Listen.IP):
			refuse(c, "allow-bind", fmt.Sprintf("address %s is not among those that apps may bind (setting allow-bind)", bindName(c.Listen.IP)),
				fmt.Sprintf("use another one, or have an operator allow it: dokku expose:set %s allow-bind %s", app, bindName(c.Listen.IP)))
		default:
			if rule, reason, remedy := c.void(p.Options); rule != "" {
				refuse(c, rule, reason, remedy)
			}
		}
	}
	return refusals
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
