package haproxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
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
	// Timeout is how long a proxy may take to tell a header, in milliseconds; 0 where no header is read. Wait is for HAProxy before 3.0,
	// which has one time for the header and the wait for a container that may follow.
	Timeout, Wait int64
	// Stage is when HAProxy knows where a client comes from: at once, or when a header has told it.
	Stage string
	Rate  int
	// Table is the proxy's name where there is a rate.
	Table   string
	Retries int64
	// PlainCheck tells that checks must be told to send no PROXY header.
	PlainCheck bool
	// Server are the words that all servers have in common.
	Server string
}

// headerTimeout is how long a header may take to come: longer than the second after which the kernel repeats a lost packet,
// twice.
const headerTimeout = 5 * time.Second

func rulesOf(p proxy) rules {
	o := p.route.Options
	four, six := families(o.AcceptProxy)
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
		r.Wait = min(milliseconds(p.route.Hold)+r.Timeout, math.MaxInt32)
	}
	if r.Rate > 0 {
		r.Table = p.name
	}
	return r
}

// header is the word of a server that gets a PROXY header, "" where it gets none.
func header(r deploy.Route) string {
	switch r.Options.ProxyProtocol {
	case deploy.ProxyV1:
		return "send-proxy"
	case deploy.ProxyV2:
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

// markOf is an ACL that nothing uses. The running HAProxy has it as long as its networks are those of acls: with thousands of
// ports it takes long to ask for all of them.
func markOf(acls []acl) acl {
	sum := sha256.New()
	for _, a := range acls {
		_, _ = io.WriteString(sum, a.String()+"\n")
	}
	return acl{Name: "networks", Number: markNumber, Networks: []string{hex.EncodeToString(sum.Sum(nil)[:8])}}
}

// convergeNetworks has the running HAProxy let those in whom acls name. Whether it does already, the mark tells; all of them looks at
// all networks, which finds what somebody else has changed.
func (e *Engine) convergeNetworks(ctx context.Context, acls []acl, all bool) error {
	if len(acls) == 0 {
		return nil
	}
	mark := markOf(acls)
	look := []acl{mark}
	if all {
		look = append(look, acls...)
	}
	now, err := e.networks(ctx, look)
	if err != nil || len(networkCommands(look, now)) == 0 {
		return err
	}
	// Without any mark in between: whoever is interrupted leaves none that is not true.
	for _, next := range [][]acl{{{Name: mark.Name, Number: mark.Number}}, acls, {mark}} {
		if err := e.setNetworks(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// setNetworks makes the networks of the running HAProxy those of acls, and reads back that they are.
func (e *Engine) setNetworks(ctx context.Context, acls []acl) error {
	return e.steps(ctx, "HAProxy lets those in that may connect", func() ([]string, error) {
		now, err := e.networks(ctx, acls)
		if err != nil {
			return nil, err
		}
		acls = slices.DeleteFunc(slices.Clone(acls), func(a acl) bool { return len(networkCommands([]acl{a}, now)) == 0 })
		return networkCommands(acls, now), nil
	})
}

// aclsAtOnce is how many ACLs are asked for in one exchange, so that the line stays below maxLine.
const aclsAtOnce = 400

// networks asks the running HAProxy for the networks of ACLs, by their number.
func (e *Engine) networks(ctx context.Context, acls []acl) (map[int][]string, error) {
	networks := make(map[int][]string, len(acls))
	for some := range slices.Chunk(acls, aclsAtOnce) {
		// An answer ends with an empty line, and is nothing more where the ACL is empty. What is known not to be empty comes first
		// and last, since blanks at the ends get lost.
		commands := "show info"
		for _, a := range some {
			commands += fmt.Sprintf(";show acl #%d", a.Number)
		}
		text, err := e.command(ctx, commands+";show info")
		if err != nil {
			return nil, err
		}
		answers := [][]string{nil}
		for line := range strings.SplitSeq(text, "\n") {
			if line == "" {
				answers = append(answers, nil)
				continue
			}
			answers[len(answers)-1] = append(answers[len(answers)-1], line)
		}
		if len(answers) != len(some)+2 {
			return nil, fmt.Errorf("HAProxy did not answer in full on %s: %d answers to %d questions", e.cfg.StatsSocket, len(answers), len(some)+2)
		}
		for i, a := range some {
			for _, line := range answers[i+1] {
				// "0x55ea2a09d450 10.0.0.0/8"
				address, network, found := strings.Cut(line, " ")
				if !found || !strings.HasPrefix(address, "0x") {
					return nil, fmt.Errorf("HAProxy's answer on %s to ACL #%d: %q", e.cfg.StatsSocket, a.Number, line)
				}
				networks[a.Number] = append(networks[a.Number], network)
			}
		}
	}
	return networks, nil
}

// networkCommands are the next step from the networks that the running HAProxy has to those of acls, none when there is nothing
// left to do. New ones come before old ones go, so that nobody is closed in between who may connect before and after.
func networkCommands(acls []acl, now map[int][]string) []string {
	var add, del []string
	for _, a := range acls {
		for _, network := range a.Networks {
			if !slices.Contains(now[a.Number], network) {
				add = append(add, fmt.Sprintf("add acl #%d %s", a.Number, network))
			}
		}
		for _, network := range now[a.Number] {
			if !slices.Contains(a.Networks, network) {
				del = append(del, fmt.Sprintf("del acl #%d %s", a.Number, network))
			}
		}
	}
	if len(add) > 0 {
		return add
	}
	return del
}
