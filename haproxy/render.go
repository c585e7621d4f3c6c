package haproxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"net/netip"
	"slices"
	"strings"
	"text/template"
	"time"
	"unicode"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
	"dokku-expose/templates"
)

const (
	// holdSlot is the name of the server line that holds connections.
	holdSlot = "hold"
	// holdPort is the port that free slots point at, and held connections that no other worker may take over. Nothing may
	// listen there: no route gets it.
	holdPort = 1
	// connectTimeout is how long one try to reach a server may take.
	connectTimeout = 5 * time.Second
)

// nowhere is the address that refuses connections at once.
var nowhere = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), holdPort)

// proxy is a route with its slots.
type proxy struct {
	name  string
	route deploy.Route
	// slots are the servers by slot: s1 is slots[0]. A nil one is free.
	slots []*deploy.Server
}

// slotName is the name of the server line of slots[i].
func slotName(i int) string { return fmt.Sprintf("s%d", i+1) }

var configuration = template.Must(template.New("haproxy.cfg").
	Funcs(template.FuncMap{"quote": quote, "join": strings.Join}).
	Option("missingkey=error").
	Parse(templates.HAProxy))

// render makes the configuration of proxies. Its structure identifies all of it but the servers' addresses and the networks that
// may connect, which are what can be changed without a reload.
func (e *Engine) render(proxies []proxy, stats bool, g generation) (files, error) {
	if err := e.checkWords(); err != nil {
		return files{}, err
	}
	v := e.view(proxies, stats, g)
	sum, err := v.sum()
	if err != nil {
		return files{}, err
	}
	structure, routes := g.mark(sum), savedRoutes(proxies)
	v.Description, v.Mark = description(structure, v.statsAddress()), markOf(numbered(routes))
	var b bytes.Buffer
	if err := configuration.Execute(&b, v); err != nil {
		return files{}, fmt.Errorf("HAProxy's configuration: %w", err)
	}
	return files{b.Bytes(), []saved{{hash(b.Bytes()), structure, routes}}}, nil
}

// sum is the same for configurations that differ in nothing but what can be changed without a reload.
func (v view) sum() (string, error) {
	v.Proxies = slices.Clone(v.Proxies)
	for i := range v.Proxies {
		p := &v.Proxies[i]
		p.Slots = make([]slotView, len(p.Slots))
		p.Options.ACLs = slices.Clone(p.Options.ACLs)
		for i := range p.Options.ACLs {
			if a := &p.Options.ACLs[i]; a.Number > 0 {
				a.Networks = nil
			}
		}
	}
	sum := sha256.New()
	if _, err := io.WriteString(sum, templates.HAProxy); err != nil {
		return "", err
	}
	if err := json.NewEncoder(sum).Encode(v); err != nil {
		return "", fmt.Errorf("HAProxy's configuration: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

const descriptionPrefix = "dokku-expose"

// description is the global section's, which `show info` tells back: it says of a running worker what it was started with.
func description(structure, stats string) string {
	return strings.TrimSpace(descriptionPrefix + " " + structure + " " + stats)
}

func parseDescription(s string) (structure, stats string) {
	fields := strings.Fields(s)
	if len(fields) < 2 || fields[0] != descriptionPrefix {
		return "", ""
	}
	if len(fields) > 2 {
		stats = fields[2]
	}
	return fields[1], stats
}

// checkWords refuses settings that can't be words of HAProxy's configuration language.
func (e *Engine) checkWords() error {
	for what, s := range map[string]string{
		"path of the stats socket":        e.cfg.StatsSocket,
		"path of the daemon's socket":     e.cfg.DaemonSocket,
		"login of the statistics page":    e.cfg.StatsUser,
		"password of the statistics page": e.cfg.StatsPassword,
	} {
		if strings.ContainsFunc(s, unicode.IsControl) || len(s) > 512 {
			return fmt.Errorf("the %s holds control characters or is longer than 512 bytes", what)
		}
	}
	if !e.cfg.StatsListen.IsValid() {
		return nil
	}
	if e.cfg.StatsPassword == "" || e.cfg.StatsUser == "" {
		return errors.New("the statistics page needs a login and a password")
	}
	return nil
}

type view struct {
	Description   string
	StatsSocket   string
	HardStopAfter int64 // milliseconds; 0: never
	MaxConn       int   // 0: as many as the limit of open files allows
	Stats         *statsView
	Connect       int64            // milliseconds
	Takeover      []netip.AddrPort // where former workers hold connections
	// Mark is that of all networks that may connect.
	Mark    acl
	Proxies []proxyView
}

type statsView struct {
	Listen         netip.AddrPort
	Bind           string
	User, Password string
	Clients        int // how many there may be at once
	// Daemon is the address of who shows the containers, "" for nobody.
	Daemon string
}

type proxyView struct {
	Name string
	// About is what the statistics page says of it.
	About   string
	Bind    string
	Options optionsView
	Retries int64
	// HalfClosed is how long a half-closed connection may be without any data, in milliseconds; 0: no limit.
	HalfClosed int64
	// PlainCheck tells that checks must be told to send no PROXY header.
	PlainCheck bool
	// Server are the words that all servers have in common.
	Server string
	Slots  []slotView
	Hold   *netip.AddrPort
	Token  string // what held connections say whose they are with; "" when no other worker may take them over
}

type slotView struct {
	Name string
	Addr netip.AddrPort
	Free bool
}

func (v view) statsAddress() string {
	if v.Stats == nil {
		return ""
	}
	return v.Stats.Listen.String()
}

func (e *Engine) view(proxies []proxy, stats bool, g generation) view {
	v := view{
		StatsSocket: e.cfg.StatsSocket, HardStopAfter: milliseconds(e.cfg.WorkerDeadline), MaxConn: e.cfg.TotalConnections,
		Connect: milliseconds(connectTimeout), Takeover: e.takeover(g),
	}
	if stats {
		v.Stats = &statsView{
			Listen: e.cfg.StatsListen, Bind: bind(deploy.FrontendAt(e.cfg.StatsListen), true),
			User: e.cfg.StatsUser, Password: e.cfg.StatsPassword, Clients: statsClients(e.cfg.TotalConnections),
		}
		if e.cfg.DaemonSocket != "" {
			v.Stats.Daemon = "unix@" + e.cfg.DaemonSocket
		}
	}
	ipv6 := listeners.HasIPv6()
	for i, p := range proxies {
		pv := proxyView{
			Name: p.name, About: e.about(p.route), Bind: bind(p.route.Frontend, ipv6), Options: viewOptions(i, p), Retries: retries(p),
			HalfClosed: milliseconds(halfClosed(p.route)),
			PlainCheck: p.checked() && header(p.route) != "", Server: strings.TrimSpace(check(p.route) + " " + header(p.route)),
		}
		for i, server := range p.slots {
			s := slotView{Name: slotName(i), Addr: nowhere, Free: true}
			if server != nil {
				s.Addr, s.Free = server.Addr, false
			}
			pv.Slots = append(pv.Slots, s)
		}
		if p.route.Hold > 0 {
			hold := e.holdAddr(g)
			pv.Hold = &hold
			if g != alone {
				pv.Token = e.token(p.name)
			}
		}
		v.Proxies = append(v.Proxies, pv)
	}
	return v
}

// about says on the statistics page what a proxy is for: only what seldom changes, since each change of it is a reload. The page takes
// it for HTML.
func (e *Engine) about(r deploy.Route) string {
	text := fmt.Sprintf("public port %s of app %s", r.Frontend, r.App)
	if r.Process != "" {
		text += ", process type " + r.Process
	}
	text = html.EscapeString(oneLine(text))
	if e.cfg.DaemonSocket != "" {
		// HAProxy knows servers by their addresses only.
		text += ` (<a href="/containers">its containers</a>)`
	}
	return text
}

// oneLine is text without control characters.
func oneLine(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return unicode.ReplacementChar
		}
		return c
	}, text)
}

// retries is how often a connection is tried again. With a hold each try waits a second, for the one server that refuses is
// asked once a second; but each of several servers that died in the same moment costs a try that does not wait.
func retries(p proxy) int64 {
	if p.route.Hold <= 0 {
		return 1
	}
	seconds := (milliseconds(p.route.Hold) + 999) / 1000
	return seconds + int64(len(p.slots)-minSlots)/2
}

// halfClosed is how long a half-closed connection may be without any data, 0 for no limit of its own. A shorter time for idle connections
// is the limit of half-closed ones, too. HAProxy ends an idle connection side by side when it has a time for half-closed ones, so that
// clients would hear what the server says of that.
func halfClosed(r deploy.Route) time.Duration {
	d, idle := r.HalfClosedTimeout(), r.Options.IdleTimeout
	if idle > 0 && d >= idle {
		return 0
	}
	return d
}

// milliseconds is a duration in whole milliseconds, at least one, and as long as HAProxy's clock allows at most (24.8 days):
// that a setting is longer than that must not keep HAProxy from loading all others.
func milliseconds(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return min(max(d.Milliseconds(), 1), math.MaxInt32)
}

// neverUp is how many checks in a row must succeed before HAProxy itself takes a server for up again: more than a year's. Whoever
// accepts at the address of a server that went down may be another app's container; a table that proves it brings it back at once.
const neverUp = 100_000_000

// check is how HAProxy finds out whether a server has gone down, "" when it shall not.
func check(r deploy.Route) string {
	if r.HealthCheck <= 0 {
		return ""
	}
	inter := milliseconds(r.HealthCheck)
	s := fmt.Sprintf("check inter %dms fastinter %dms downinter %dms rise %d fall 2", inter, min(inter, 500), min(inter, 1000), neverUp)
	if r.Hold > 0 {
		// When all servers of a route die at once, connections must be held before the next check tells so. Without a
		// hold that would only close what may work a moment later.
		s += " observe layer4 error-limit 1 on-error mark-down"
	}
	return s
}

// maxStatsClients is how many clients the statistics page has at once.
const maxStatsClients = 64

// statsClients are fewer of them where there may be few connections in total, of which they take some.
func statsClients(total int) int {
	if total == 0 {
		return maxStatsClients
	}
	return min(max(total/10, 1), maxStatsClients)
}
