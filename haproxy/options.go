package haproxy

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"dokku-expose/deploy"
)

// acl is one line of networks of a proxy. Several lines of one name are one ACL. Those that say who may connect have a number,
// by which the running HAProxy takes other networks for them.
type acl struct {
	Name string
	// Number is 0 for networks that need a reload to change.
	Number   int
	Networks []string
}

const (
	// networksPerLine is how many networks a line has: HAProxy takes 64 words.
	networksPerLine = 50
	// markNumber is the number of the mark, far above all others.
	markNumber = 1_000_000_000
	// numbersPerProxy is how many numbers a proxy has: two lines for each family, since a route has at most the networks that
	// two options have in common.
	numbersPerProxy = 4
)

// HAProxy looks for an IPv4 address among IPv6 networks too, and takes 2002:A00:1:: for 10.0.0.1. So the two families are kept
// apart, each in an ACL of its own, and a source is first asked which one it is of, in a way that leaves no doubt. The network
// of a family where it has none is one that the ACL of the other family could have only.
const (
	noneOfIPv4, allOfIPv4 = "::/128", "0.0.0.0/0"
	noneOfIPv6, allOfIPv6 = "::ffff:0:0/96", "::/0"
)

// String returns the acl in HAProxy's words.
func (a acl) String() string {
	text := a.Name + " src "
	if a.Number > 0 {
		text += "-u " + strconv.Itoa(a.Number) + " "
	}
	return text + strings.Join(a.Networks, " ")
}

// allowACLs are the networks that may connect to the i-th proxy.
func allowACLs(i int, allow deploy.Networks) []acl {
	four, six := families(allow)
	switch {
	case allow.IsZero():
		four, six = []string{allOfIPv4}, []string{allOfIPv6}
	case len(four) == 0:
		four = []string{noneOfIPv4}
	}
	if len(six) == 0 {
		six = []string{noneOfIPv6}
	}
	number := i*numbersPerProxy + 1
	return append(lines("from4", number, four), lines("from6", number+numbersPerProxy/2, six)...)
}

// families divides networks by family.
func families(networks deploy.Networks) (four, six []string) {
	for _, prefix := range networks.Prefixes() {
		if prefix.Addr().Is4() {
			four = append(four, prefix.String())
		} else {
			six = append(six, prefix.String())
		}
	}
	return four, six
}

// lines are the ACL called name; its lines are numbered from number on, unless that is 0.
func lines(name string, number int, networks []string) []acl {
	var acls []acl
	for some := range slices.Chunk(networks, networksPerLine) {
		acls = append(acls, acl{Name: name, Number: number, Networks: some})
		if number > 0 {
			number++
		}
	}
	return acls
}

// rules are what a proxy's lines say that many proxies have in common. They are written once for all proxies whose rules are equal.
type rules struct {
	MaxConnections int
	IdleTimeout    int64 // milliseconds
	// HalfClosed is how long a half-closed connection may be without any data, in milliseconds; 0: no limit.
	HalfClosed int64
	Balance    deploy.Balance
	// Proxies are ACLs of the proxies whose header is read, each "" or a line. Proxies4 and Proxies6 tell that there are any.
	Proxies            [numbersPerProxy]string
	Proxies4, Proxies6 bool
	// Timeout is how long a PROXY header and a TLS handshake may take, in milliseconds; 0 without both. Wait is for HAProxy before 3.0,
	// which has one time for these and the wait for a container that may follow.
	Timeout, Wait int64
	// Stage is when HAProxy knows where a client comes from: at once, or when a header has told it. It is "" where the rules are another
	// section's.
	Stage string
	Rate  int
	// Table is the proxy's name where there is a rate. OtherTable tells that it is another section's.
	Table      string
	OtherTable bool
	// Versions is the table that counts clients by their version of TLS, "" where TLS does not end here.
	Versions string
	Retries  int64
	// PlainCheck tells that checks must be told to send no PROXY header.
	PlainCheck bool
	// Server are the words that all servers have in common.
	Server string
}

// headerTimeout is how long a header may take to come: longer than the second after which the kernel repeats a lost packet,
// twice.
const headerTimeout = 5 * time.Second

// handshakeTimeout is how long a TLS handshake may take.
const handshakeTimeout = 10 * time.Second

func rulesOf(p proxy) rules {
	o := p.route.Options
	four, six := families(o.AcceptProxy)
	if p.named { // The frontend called names reads them.
		four, six = nil, nil
	}
	r := rules{
		MaxConnections: o.MaxConnections, IdleTimeout: milliseconds(o.IdleTimeout), HalfClosed: milliseconds(halfClosed(p.route)), Balance: o.Balance,
		Proxies4: len(four) > 0, Proxies6: len(six) > 0, Stage: "connection", Rate: o.Rate, Retries: retries(p),
		PlainCheck: p.checked() && header(p.route) != "", Server: strings.TrimSpace(check(p.route) + " " + header(p.route)),
	}
	for i, a := range append(lines("proxies4", 0, four), lines("proxies6", 0, six)...) {
		r.Proxies[i] = a.String()
	}
	if r.Proxies4 || r.Proxies6 {
		r.Stage, r.Timeout = "session", milliseconds(headerTimeout)
	}
	if p.named {
		r.Stage = ""
	}
	if secure(p.route) {
		r.Timeout += milliseconds(handshakeTimeout)
		r.Versions = versionsTable
	}
	if r.Timeout > 0 {
		r.Wait = min(milliseconds(p.route.Hold)+r.Timeout, math.MaxInt32)
	}
	if r.Rate > 0 {
		r.Table = p.name
	}
	return r
}

// gateOf are the rules of a named proxy's backend.
func gateOf(p proxy) rules {
	r := rules{HalfClosed: milliseconds(p.route.HalfClosedTimeout()), Stage: "content", Rate: p.route.Options.Rate}
	if r.Rate > 0 {
		r.Table = namesPrefix + p.name
	}
	return r
}

// header is the word of a server that gets a PROXY header, "" where it gets none.
func header(r deploy.Route) string {
	switch r.Options.ProxyProtocol {
	case deploy.ProxyV1:
		return "send-proxy"
	case deploy.ProxyV2:
		if secure(r) {
			return "send-proxy-v2 proxy-v2-options ssl,cert-cn,authority"
		}
		return "send-proxy-v2"
	}
	return ""
}

// numbered are the ACLs of routes, in the order of their proxies, that the running HAProxy can be told to change.
func numbered(routes []deploy.Route) []acl {
	var acls []acl
	for i, r := range routes {
		acls = append(acls, allowACLs(i, r.Options.Allow)...)
	}
	return acls
}
