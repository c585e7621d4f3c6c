package haproxy

import (
	"cmp"
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

// Traffic is what HAProxy counts.
type Traffic struct {
	// Version is HAProxy's own.
	Version string
	// Master is the id of the master process.
	Master int
	// Since is when the worker started that counts now.
	Since time.Time
	// MaxConnections is the most that it takes.
	MaxConnections int
	// Reloads is how often HAProxy was reloaded since its master started.
	Reloads int
	Routes  []RouteTraffic
	// Old are the workers that a reload left to their last connections.
	Old []WorkerTraffic
}

// WorkerTraffic is an old worker.
type WorkerTraffic struct {
	PID, Connections int
}

// RouteTraffic is one public address. Connections are those of all workers, the other counts those of the current one.
type RouteTraffic struct {
	App    string
	Listen deploy.Listen
	// Listening is false for an address that only old workers have connections of.
	Listening bool
	// Held are connections that wait for a server.
	Held int
	// Total connections were accepted, Unserved were closed since no server came up while they were held. Failed are attempts
	// to connect to a server that were not successful. In and Out are bytes from and to clients,
	// which HAProxy counts every five seconds.
	Total, Unserved, Failed, In, Out uint64
	Servers                          []ServerTraffic
}

// ServerTraffic is an address that gets connections, or has some still. A slot of HAProxy's that has changed its address while
// it had connections counts these as its new address's: HAProxy tells them apart only one by one, which takes too long.
type ServerTraffic struct {
	Addr netip.AddrPort
	// Current tells that it gets new connections when it is up.
	Current, Up bool
	Connections int
}

// Traffic asks the running HAProxy and its old workers. The error wraps deploy.ErrNotRunning when there is none.
func (e *Engine) Traffic(ctx context.Context) (Traffic, error) {
	now, err := e.worker(ctx, e.command)
	if err != nil {
		return Traffic{}, err
	}
	p, err := e.processes(ctx)
	if err != nil {
		return Traffic{}, err
	}
	t := Traffic{Version: now.version, Master: p.master, Since: time.Now().Add(-now.uptime).Truncate(time.Second), MaxConnections: now.maxConnections, Reloads: p.reloads}
	routes := make(map[string]*RouteTraffic)
	now.addTo(routes, true)
	for _, pid := range p.workers {
		if pid == now.pid {
			continue
		}
		old, err := e.worker(ctx, oldWorker{e, pid}.command)
		switch {
		case err == nil:
			t.Old = append(t.Old, WorkerTraffic{PID: pid, Connections: old.addTo(routes, false)})
		case ctx.Err() != nil || !gone(pid):
			return Traffic{}, fmt.Errorf("HAProxy's old worker %d: %w", pid, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(routes)) {
		t.Routes = append(t.Routes, *routes[name])
	}
	return t, nil
}

// workerTraffic is what one worker says.
type workerTraffic struct {
	*snapshot
	stat stat
}

// worker asks one worker. The commands go one by one: a master takes no more at a time.
func (e *Engine) worker(ctx context.Context, ask func(context.Context, string) (string, error)) (*workerTraffic, error) {
	var answers []string
	// Objects of the types 1, 2 and 4 are frontends, backends and servers.
	for _, command := range []string{"show servers state", "show info", "show stat -1 7 -1"} {
		answer, err := ask(ctx, command)
		if err != nil {
			return nil, err
		}
		answers = append(answers, answer)
	}
	s, err := e.parse(answers[0] + "\n" + answers[1])
	if err != nil {
		return nil, err
	}
	w := &workerTraffic{snapshot: s}
	w.stat, err = parseStat(answers[2])
	return w, err
}

// addTo adds what the worker says to routes, by the names of their proxies, and returns how many connections it has. Only those
// of an old worker count.
func (w *workerTraffic) addTo(routes map[string]*RouteTraffic, current bool) (connections int) {
	for _, row := range w.stat.rows {
		name, server := w.stat.name(row)
		number := func(column string) uint64 { return w.stat.number(row, column) }
		app, listen, ours := parseName(name)
		if !ours {
			continue
		}
		r := routes[name]
		if r == nil {
			r = &RouteTraffic{App: app, Listen: listen, Listening: current}
			routes[name] = r
		}
		open := int(number("scur"))
		switch server {
		case "FRONTEND":
			connections += open
			r.Held += open
			if current {
				r.Total, r.In, r.Out = number("stot"), number("bin"), number("bout")
			}
		case "BACKEND":
		case holdSlot:
			if current {
				r.Unserved = number("econ")
			}
		default:
			// What a frontend has more than its servers is held.
			r.Held -= open
			if current {
				r.Failed += number("econ") + number("wretr")
			}
			if i := slices.IndexFunc(w.proxies[name], func(s slot) bool { return s.name == server }); i >= 0 {
				r.add(w.proxies[name][i], open, current)
			}
		}
	}
	for _, r := range routes {
		r.Held = max(r.Held, 0)
		slices.SortFunc(r.Servers, func(a, b ServerTraffic) int {
			return cmp.Or(-compareBool(a.Current, b.Current), a.Addr.Compare(b.Addr))
		})
	}
	return connections
}

// add counts a slot's connections for its address. A slot out of service without any is none of interest.
func (r *RouteTraffic) add(s slot, open int, current bool) {
	ready := s.ready && current
	if !ready && open == 0 {
		return
	}
	i := slices.IndexFunc(r.Servers, func(o ServerTraffic) bool { return o.Addr == s.addr })
	if i < 0 {
		r.Servers = append(r.Servers, ServerTraffic{Addr: s.addr})
		i = len(r.Servers) - 1
	}
	server := &r.Servers[i]
	server.Connections += open
	if ready {
		server.Current, server.Up = true, s.up
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
