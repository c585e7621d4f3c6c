package haproxy

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"net/netip"
	"strconv"
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
	// named tells that routes share its frontend by server names, so that its clients come by the frontend called names.
	named bool
	// slots are the servers by slot: s1 is slots[0]. A nil one is free.
	slots []*deploy.Server
}

// slotName is the name of the server line of slots[i].
func slotName(i int) string { return "s" + strconv.Itoa(i+1) }

var configuration = template.Must(template.New("haproxy.cfg").
	Funcs(template.FuncMap{"quote": quote}).
	Option("missingkey=error").
	Parse(templates.HAProxy))

// render makes the configuration of proxies. Its structure identifies all of it but the servers' addresses and the networks that
// may connect, which are what can be changed without a reload. live is what runs.
func (e *Engine) render(proxies []proxy, stats bool, g generation, live *snapshot) (w wanted, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("HAProxy's configuration: %w", err)
		}
	}()
	if err := e.checkWords(); err != nil {
		return wanted{}, err
	}
	v, err := e.view(proxies, stats, g)
	if err != nil {
		return wanted{}, err
	}
	v.NamesMaxConn = namesMaxConn(cmp.Or(e.cfg.TotalConnections, live.maxConnections))
	if v.Left, err = e.left(proxies, live.named); err != nil {
		return wanted{}, err
	}
	sum, err := v.sum()
	if err != nil {
		return wanted{}, err
	}
	routes := savedRoutes(proxies)
	w = wanted{proxies: proxies, structure: g.mark(sum), acls: v.acls}
	v.Description, v.Mark = description(w.structure, v.statsAddress()), markOf(w.acls)
	var b bytes.Buffer
	b.Grow(proxySize * len(proxies))
	if err := configuration.Execute(&b, v); err != nil {
		return wanted{}, err
	}
	w.files, err = newFiles(b.Bytes(), w.structure, routes)
	return w, err
}

// proxySize is a bit more than most proxies take, in bytes: to let a buffer grow step by step is to copy all that was written.
const proxySize = 1200

// sum is the same for configurations that differ in nothing but what can be changed without a reload.
func (v view) sum() (string, error) {
	head := v
	// The limit is known once a worker runs, and Left is for the moment of its start: neither is a reason for another worker.
	head.Proxies, head.NamesMaxConn, head.Left = nil, 0, leftView{}
	sum := sha256.New()
	if err := json.NewEncoder(sum).Encode(head); err != nil {
		return "", err
	}
	words := append(make([]string, 0, 8*len(v.Proxies)), templates.HAProxy)
	for i := range v.Proxies {
		p := &v.Proxies[i]
		words = append(words, p.Name, p.About, p.Bind, p.Rules, p.Hold, p.Token, p.Gate, p.shape)
	}
	_, err := io.WriteString(sum, strings.Join(words, "\x00"))
	return hex.EncodeToString(sum.Sum(nil)[:8]), err
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
	acls    []acl
	Proxies []proxyView
	// Names is nil where no routes share a frontend by server names.
	Names *namesView
	// NamesMaxConn is how many clients they may have at once.
	NamesMaxConn int
	// CertifiesClients tells that clients of some proxy need a certificate.
	CertifiesClients bool
	// Versions is the name of the section that counts clients by their version of TLS, "" where TLS ends nowhere here.
	Versions string
	Left     leftView
}

type statsView struct {
	Listen         netip.AddrPort
	Bind           string
	User, Password string
	Clients        int // how many there may be at once
	// Daemon is the address of who shows the containers, "" for nobody.
	Daemon string
}

// proxyView is a proxy in words of HAProxy's language, so that a template has little to do for each of thousands.
type proxyView struct {
	Name string
	// About is what the statistics page says of it, quoted.
	About, Bind string
	// Allow and Slots are lines that the running HAProxy can be told to change, shape is what it can't change of them.
	Allow, Slots, shape string
	// Rules are the lines made of rules. Gate are those of a named proxy's backend, which Allow belongs to then, and Socket is where that
	// connects to.
	Rules, Gate, Socket string
	// Hold is the address where connections are held, "" for nowhere.
	Hold  string
	Token string // what held connections say whose they are with; "" when no other worker may take them over
}

func (v view) statsAddress() string {
	if v.Stats == nil {
		return ""
	}
	return v.Stats.Listen.String()
}

func (e *Engine) view(proxies []proxy, stats bool, g generation) (v view, err error) {
	v = view{
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
	ipv6, written := listeners.HasIPv6(), make(writtenRules)
	if v.Names = e.namesView(proxies, ipv6); v.Names != nil && v.MaxConn > 0 {
		v.MaxConn = max(v.MaxConn, 2) // one client's
	}
	for i, p := range proxies {
		pv := proxyView{Name: p.name, About: quote(e.about(p.route)), Bind: bind(p.route.Key.Frontend(), ipv6), shape: strconv.Itoa(len(p.slots))}
		if p.named {
			pv.Bind, pv.Socket = e.bindUnix(p.name)+" accept-proxy", e.unixAddr(p.name)
		}
		pv.Bind += e.tlsWords(p)
		if secure(p.route) {
			v.Versions, v.CertifiesClients = versionsTable, v.CertifiesClients || p.route.ClientCA != ""
		}
		for _, a := range allowACLs(i, p.route.Options.Allow) {
			v.acls = append(v.acls, a)
			pv.Allow += "\n    acl " + a.String()
			pv.shape += " " + a.Name
		}
		if pv.Rules, err = written.lines("rules", rulesOf(p)); err == nil && p.named {
			pv.Gate, err = written.lines("gate", gateOf(p))
		}
		if err != nil {
			return view{}, err
		}
		for i, server := range p.slots {
			pv.Slots += "\n    server " + slotName(i) + " "
			if server != nil {
				pv.Slots += server.Addr.String()
			} else {
				pv.Slots += nowhere.String() + " disabled"
			}
		}
		if p.route.Hold > 0 {
			pv.Hold = e.holdAddr(g).String()
			if g != alone {
				pv.Token = e.token(p.name)
			}
		}
		v.Proxies = append(v.Proxies, pv)
	}
	return v, nil
}

// writtenRules are lines made of rules, by themselves.
type writtenRules map[rules]string

// lines are made by a template of this name. Rules that are equal have the same name.
func (w writtenRules) lines(name string, r rules) (string, error) {
	if text, made := w[r]; made {
		return text, nil
	}
	var b strings.Builder
	err := configuration.ExecuteTemplate(&b, name, r)
	w[r] = b.String()
	return w[r], err
}

// about says on the statistics page what a proxy is for: only what seldom changes, since each change of it is a reload. The page takes
// it for HTML.
func (e *Engine) about(r deploy.Route) string {
	text := fmt.Sprintf("public port %s of app %s", r.Key, r.App)
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
