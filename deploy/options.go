package deploy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dokku-expose/portsfile"
)

// options are those of the claim's route: what the claim says, else what an operator has set for all routes of the app. A
// claim of a PORTS file comes with a push, which can make what an operator has set stricter, but never looser. What is the
// default anyway is not said in what is returned, so that engines need know one way only to ask for it.
func (c Claim) options(set portsfile.Options) portsfile.Options {
	o := c.Options
	if c.pushed() {
		o.Allow = both(set.Allow, o.Allow)
		o.MaxConnections = stricter(set.MaxConnections, o.MaxConnections)
		o.Rate = stricter(set.Rate, o.Rate)
		o.IdleTimeout = stricter(set.IdleTimeout, o.IdleTimeout)
		if set.AcceptProxy.IsZero() && decidesBySource(set) {
			o.AcceptProxy = portsfile.Networks{}
		} else {
			o.AcceptProxy = both(set.AcceptProxy, o.AcceptProxy)
		}
	}
	o = portsfile.Options{
		Allow:          cmp.Or(o.Allow, set.Allow),
		ProxyProtocol:  cmp.Or(o.ProxyProtocol, set.ProxyProtocol),
		AcceptProxy:    cmp.Or(o.AcceptProxy, set.AcceptProxy),
		MaxConnections: cmp.Or(o.MaxConnections, set.MaxConnections),
		Rate:           cmp.Or(o.Rate, set.Rate),
		IdleTimeout:    cmp.Or(o.IdleTimeout, set.IdleTimeout),
		Balance:        cmp.Or(o.Balance, set.Balance),
	}
	if o.ProxyProtocol == portsfile.NoProxyHeader {
		o.ProxyProtocol = ""
	}
	if o.AcceptProxy == portsfile.NetworksOf() {
		o.AcceptProxy = portsfile.Networks{}
	}
	if o.Balance == portsfile.LeastConn {
		o.Balance = ""
	}
	return o
}

// decidesBySource tells whether an operator lets addresses decide. A push must not say then whose word about addresses is
// taken: it could have everybody believed.
func decidesBySource(set portsfile.Options) bool {
	return !set.Allow.IsZero() || set.Rate > 0
}

// stricter is the smaller of two limits, of which 0 is none.
func stricter[T int | time.Duration](a, b T) T {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// both are the networks that are in a and in b, where each of them says anything.
func both(a, b portsfile.Networks) portsfile.Networks {
	if a.IsZero() || b.IsZero() {
		return cmp.Or(a, b)
	}
	var common []netip.Prefix
	for _, x := range a.Prefixes() {
		for _, y := range b.Prefixes() {
			// Of two networks that overlap, one is in the other.
			if x.Overlaps(y) && x.Bits() >= y.Bits() {
				common = append(common, x)
			} else if x.Overlaps(y) {
				common = append(common, y)
			}
		}
	}
	return portsfile.NetworksOf(common...)
}

// within tells whether each network of a is in one of b. Where b says nothing, all are.
func within(a, b portsfile.Networks) bool {
	wide := b.Prefixes()
	return b.IsZero() || !slices.ContainsFunc(a.Prefixes(), func(x netip.Prefix) bool {
		return !slices.ContainsFunc(wide, func(y netip.Prefix) bool { return x.Overlaps(y) && x.Bits() >= y.Bits() })
	})
}

// loosened is an option of a push that asks for more than an operator has set.
type loosened struct {
	// asked and set are what it asks for and what an operator has set: "rate=50/10s", "rate=20/10s". There is no set where
	// only an operator may say anything.
	asked, set string
}

// String says so.
func (l loosened) String() string {
	if l.set == "" {
		return l.asked + " names whose word about addresses is taken, which an operator does himself where he has set allow or rate"
	}
	return fmt.Sprintf("%s is more than the setting %s allows", l.asked, l.set)
}

// rule is the setting.
func (l loosened) rule() string { return l.asked[:strings.IndexByte(l.asked, '=')] }

// value is what the setting would have to be.
func (l loosened) value() string { return l.asked[len(l.rule())+1:] }

// loosens returns the first option of the claim that would loosen what an operator has set, or nil.
func (c Claim) loosens(set portsfile.Options) *loosened {
	o := c.Options
	more := func(asked, set int64) bool { return set > 0 && asked > set }
	for _, option := range []struct {
		loose      bool
		asked, set portsfile.Options
	}{
		{!within(o.Allow, set.Allow), portsfile.Options{Allow: o.Allow}, portsfile.Options{Allow: set.Allow}},
		{
			!within(o.AcceptProxy, set.AcceptProxy) || set.AcceptProxy.IsZero() && decidesBySource(set) && len(o.AcceptProxy.Prefixes()) > 0,
			portsfile.Options{AcceptProxy: o.AcceptProxy}, portsfile.Options{AcceptProxy: set.AcceptProxy},
		},
		{
			more(int64(o.MaxConnections), int64(set.MaxConnections)),
			portsfile.Options{MaxConnections: o.MaxConnections}, portsfile.Options{MaxConnections: set.MaxConnections},
		},
		{more(int64(o.Rate), int64(set.Rate)), portsfile.Options{Rate: o.Rate}, portsfile.Options{Rate: set.Rate}},
		{
			more(int64(o.IdleTimeout), int64(set.IdleTimeout)),
			portsfile.Options{IdleTimeout: o.IdleTimeout}, portsfile.Options{IdleTimeout: set.IdleTimeout},
		},
	} {
		if option.loose {
			return &loosened{asked: option.asked.String(), set: option.set.String()}
		}
	}
	return nil
}

// shutOut says that nobody can connect since what a push and what an operator allow have nothing in common.
func (c Claim) shutOut(set portsfile.Options) error {
	nobody := portsfile.NetworksOf()
	if !c.pushed() || c.Options.Allow.IsZero() || c.Options.Allow == nobody || set.Allow == nobody || both(set.Allow, c.Options.Allow) != nobody {
		return nil
	}
	return fmt.Errorf("nobody can connect: %s (%s) and the setting allow (%s) have no address in common; change one of the two",
		portsfile.Options{Allow: c.Options.Allow}, c.Where(), set.Allow)
}
