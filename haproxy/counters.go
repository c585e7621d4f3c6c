package haproxy

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"dokku-expose/deploy"
)

// count adds what the running worker and the old ones count, and the routes that only old ones have connections of.
func (e *Engine) count(ctx context.Context, live *snapshot, o *deploy.Observation) error {
	p, err := e.processes(ctx)
	if err != nil {
		return err
	}
	reloads := uint64(max(p.reloads, 0))
	o.PID, o.Reloads, o.Since = p.master, &reloads, time.Now().Add(-live.uptime).Truncate(time.Second)
	routes := make(map[string]*deploy.RouteState)
	for i := range o.Routes {
		r := &o.Routes[i]
		routes[proxyName(r.App, r.Key)] = r
	}
	answer, err := e.command(ctx, showStat)
	if err != nil {
		return err
	}
	stat, err := parseStat(answer)
	if err != nil {
		return err
	}
	live.addTo(routes, stat, true)
	if err := e.countVersions(ctx, routes); err != nil {
		return err
	}
	for _, row := range stat.rows {
		if proxy, object := stat.name(row); proxy == unknownBackend && object == "BACKEND" {
			o.Unrecognized = stat.number(row, "stot")
		}
	}
	for _, pid := range p.workers {
		if pid == live.pid {
			continue
		}
		old, stat, err := e.askOld(ctx, oldWorker{e, pid})
		switch {
		case err == nil:
			o.Old = append(o.Old, deploy.Process{PID: pid, Connections: old.addTo(routes, stat, false)})
		case ctx.Err() != nil || !ends(ctx, pid):
			return fmt.Errorf("HAProxy's old worker %d: %w", pid, err)
		}
	}
	o.Routes = o.Routes[:0:0]
	for _, name := range slices.Sorted(maps.Keys(routes)) {
		o.Routes = append(o.Routes, *routes[name])
	}
	return nil
}

// versionsTable is the section that counts clients by listener and version of TLS.
const versionsTable = "tls"

// countVersions adds how many clients have come by which version of TLS.
func (e *Engine) countVersions(ctx context.Context, routes map[string]*deploy.RouteState) error {
	ended := func(r *deploy.RouteState) bool { return r.Options.TLS == deploy.TerminateTLS }
	if !slices.ContainsFunc(slices.Collect(maps.Values(routes)), ended) {
		return nil
	}
	answer, err := e.command(ctx, "show table "+versionsTable)
	if err != nil {
		return err
	}
	for line := range strings.Lines(answer) {
		// "0x55d0c8: key=mail:993|TLSv1.3 use=0 exp=0 gpc0=7": words of which only the last have no blanks in them.
		_, entry, _ := strings.Cut(line, " key=")
		name, rest, ours := strings.Cut(entry, "|")
		version, counts, _ := strings.Cut(rest, " ")
		_, text, _ := strings.Cut(counts, "gpc0=")
		count, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		if r := routes[name]; ours && err == nil && r != nil {
			if r.TLSVersions == nil {
				r.TLSVersions = make(map[string]uint64)
			}
			r.TLSVersions[version] = count
		}
	}
	return nil
}

// showStat asks for frontends, backends and servers, which are objects of the types 1, 2 and 4.
const showStat = "show stat -1 7 -1"

// askOld asks an old worker. The commands go one by one: a master takes no more at a time.
func (e *Engine) askOld(ctx context.Context, w oldWorker) (*snapshot, stat, error) {
	var answers []string
	for _, command := range []string{"show servers state", "show info", showStat} {
		answer, err := w.command(ctx, command)
		if err != nil {
			return nil, stat{}, err
		}
		answers = append(answers, answer)
	}
	s, err := e.parse(answers[0] + "\n" + answers[1])
	if err != nil {
		return nil, stat{}, err
	}
	counts, err := parseStat(answers[2])
	return s, counts, err
}

// addTo adds what a worker counts to routes, by the names of their proxies, and returns how many connections it has. Of an old worker only
// these count.
func (s *snapshot) addTo(routes map[string]*deploy.RouteState, counts stat, current bool) (connections int) {
	for _, row := range counts.rows {
		name, server := counts.name(row)
		number := func(column string) uint64 { return counts.number(row, column) }
		app, listen, ours := parseName(name)
		if !ours {
			continue
		}
		r := routes[name]
		if r == nil {
			r = &deploy.RouteState{App: app, Key: listen, Listening: current, Servers: []deploy.ServerState{}}
			routes[name] = r
		}
		open := int(number("scur"))
		switch server {
		case "FRONTEND":
			connections += open
			r.Held += open
			if current {
				r.Total, r.In, r.Out = number("stot"), number("bin"), number("bout")
				r.HandshakesFailed = number("ssl_failed_handshake")
			}
		case "BACKEND":
		case holdSlot:
			if unserved := number("econ"); current {
				r.Unserved = &unserved
			}
		default:
			// A frontend's connections beyond those of its servers are held.
			r.Held -= open
			if current {
				r.Failed += number("econ") + number("wretr")
			}
			if i := slices.IndexFunc(s.proxies[name], func(s slot) bool { return s.name == server }); i >= 0 {
				addConnections(r, s.proxies[name][i].addr, open)
			}
		}
	}
	for _, r := range routes {
		r.Held = max(r.Held, 0)
	}
	return connections
}

// addConnections counts a slot's connections for its address. A slot that has changed its address while it had connections counts these as
// its new address's: HAProxy tells them apart only one by one, which takes too long.
func addConnections(r *deploy.RouteState, addr netip.AddrPort, open int) {
	i := slices.IndexFunc(r.Servers, func(s deploy.ServerState) bool { return s.Addr == addr })
	switch {
	case i >= 0:
		r.Servers[i].Connections += open
	case open > 0:
		r.Servers = append(r.Servers, deploy.ServerState{Addr: addr, Old: true, Connections: open})
	}
}

// stat is an answer to `show stat`: a row an object.
type stat struct {
	columns map[string]int
	rows    [][]string
}

func parseStat(answer string) (stat, error) {
	table, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(answer, "# "))).ReadAll()
	if err != nil {
		return stat{}, fmt.Errorf("HAProxy's statistics: %w", err)
	}
	if len(table) == 0 {
		return stat{}, errors.New("HAProxy's statistics are empty")
	}
	s := stat{columns: make(map[string]int), rows: table[1:]}
	for i, name := range table[0] {
		s.columns[name] = i
	}
	for _, name := range []string{"pxname", "svname", "scur", "stot", "bin", "bout", "econ", "wretr"} {
		if _, ok := s.columns[name]; !ok {
			return stat{}, fmt.Errorf("HAProxy's statistics have no column %s", name)
		}
	}
	return s, nil
}

// name says what a row is about.
func (s stat) name(row []string) (proxy, server string) {
	return row[s.columns["pxname"]], row[s.columns["svname"]]
}

// number is a count of a row, 0 where such an object has none.
func (s stat) number(row []string, column string) uint64 {
	n, _ := strconv.ParseUint(row[s.columns[column]], 10, 64)
	return n
}
