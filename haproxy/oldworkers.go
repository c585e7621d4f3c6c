package haproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"dokku-expose/deploy"
)

// oldTimeout bounds one question about old workers. When a worker ends in this moment, the master may never answer (seen with 2.8
// and 3.0).
const oldTimeout = time.Second

// oldWorker is reached through the master only.
type oldWorker struct {
	e   *Engine
	pid int
}

func (e *Engine) oldWorkers(ctx context.Context, live *snapshot) ([]oldWorker, error) {
	ctx, cancel := context.WithTimeout(ctx, oldTimeout)
	defer cancel()
	p, err := e.processes(ctx)
	if err != nil {
		return nil, err
	}
	var old []oldWorker
	for _, pid := range p.workers {
		if pid != live.pid {
			old = append(old, oldWorker{e, pid})
		}
	}
	return old, nil
}

// command sends a command to the worker. One command it must be: of several the master of 2.6 passes on some.
func (w oldWorker) command(ctx context.Context, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, oldTimeout)
	defer cancel()
	return w.e.master(ctx, fmt.Sprintf("@!%d %s", w.pid, line))
}

// read returns the servers that the worker had when it became an old one.
func (w oldWorker) read(ctx context.Context) (*snapshot, error) {
	answer, err := w.command(ctx, "show servers state")
	if err != nil {
		return nil, err
	}
	s := &snapshot{pid: w.pid, proxies: make(map[string][]slot)}
	for line := range strings.Lines(answer) {
		if err := s.server(line); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	return s, nil
}

// session is a connection as `show sess` tells of it.
type session struct {
	id, proxy, server string
	// established tells that it has reached a server.
	established bool
}

// sessionLine has the proxy that forwards a session, its server, and the state of the server's side, which versions before 2.6
// call s1.
var sessionLine = regexp.MustCompile(`^(0x[0-9a-f]+): .* be=(\S+) srv=(\S+) .* (?:scb|s1)=\[(\d+),`)

// stateEstablished is the state of a side that is connected (SC_ST_EST; those below come before, those above after).
const stateEstablished = 8

func (w oldWorker) sessions(ctx context.Context) ([]session, error) {
	answer, err := w.command(ctx, "show sess")
	if err != nil {
		return nil, err
	}
	var list []session
	for line := range strings.Lines(answer) {
		m := sessionLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		state, err := strconv.Atoi(m[4])
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		list = append(list, session{id: m[1], proxy: m[2], server: m[3], established: state >= stateEstablished})
	}
	return list, nil
}

// wantedBy are the addresses that get new connections, by the name of the proxy.
func wantedBy(t deploy.Table) map[string]map[netip.AddrPort]bool {
	wanted := make(map[string]map[netip.AddrPort]bool)
	for _, r := range t.Routes {
		addrs := make(map[netip.AddrPort]bool)
		for _, s := range r.Servers {
			addrs[s.Addr] = true
		}
		wanted[proxyName(r.App, r.Key)] = addrs
	}
	return wanted
}

// ends tells whether a worker that did not answer in full is about to end: it lets go of its sockets before it is gone.
func ends(ctx context.Context, pid int) bool {
	ctx, cancel := context.WithTimeout(ctx, oldTimeout)
	defer cancel()
	return await(ctx, "the old worker has ended", func() (bool, error) { return gone(pid), nil }) == nil
}

// cutInOldWorkers ends those connections of old workers that must not go on there: such as have reached no server yet and may yet be
// led to one that is not wanted, whose address may be another app's by now; and such as are on old servers for longer than
// limits allow (see cutLimits), which it adds to counts, by proxy. An old worker's servers can't be changed any more, but its
// connections can be closed.
//
// A worker that does not answer leads no connection elsewhere, and must not undo an applied table: the old workers are counted.
func (e *Engine) cutInOldWorkers(ctx context.Context, wanted map[string]map[netip.AddrPort]bool, live *snapshot, limits map[string]time.Duration, counts map[string]int) error {
	workers, err := e.oldWorkers(ctx, live)
	if err != nil {
		return unlessUnreachable(err)
	}
	for _, w := range workers {
		err := w.cut(ctx, func(s session, slots []slot) bool {
			if !s.established {
				return slices.ContainsFunc(slots, func(slot slot) bool { return slot.serving() && !wanted[s.proxy][slot.addr] })
			}
			limit, ok := limits[s.proxy]
			i := slices.IndexFunc(slots, func(slot slot) bool { return slot.name == s.server })
			return ok && i >= 0 && !wanted[s.proxy][slots[i].addr] && outOfService(live.proxies[s.proxy], slots[i].addr) >= limit
		}, func(s session) {
			if s.established {
				counts[s.proxy]++
			}
		})
		if err := unlessUnreachable(err); err != nil && !ends(ctx, w.pid) {
			return fmt.Errorf("HAProxy's old worker %d: %w", w.pid, err)
		}
	}
	return nil
}

// unlessUnreachable is err unless it tells that HAProxy does not answer, or not in time.
func unlessUnreachable(err error) error {
	if absent(err) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// cut ends the connections that must end by what the worker thinks of their route's servers. It calls closed for each that had not
// ended by itself.
func (w oldWorker) cut(ctx context.Context, must func(s session, slots []slot) bool, closed func(session)) error {
	sessions, err := w.sessions(ctx)
	if err != nil || len(sessions) == 0 {
		return err
	}
	known, err := w.read(ctx)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		slots, ours := known.proxies[s.proxy]
		if !ours || !must(s, slots) {
			continue
		}
		answer, err := w.command(ctx, "shutdown session "+s.id)
		if err != nil {
			return err
		}
		if !strings.Contains(answer, "No such session") {
			closed(s)
		}
	}
	return nil
}

// longestTry is how long a connection may try at most to reach a server of one of t's routes.
func longestTry(t deploy.Table) time.Duration {
	longest := connectTimeout
	for _, r := range t.Routes {
		tries := 1 + retries(proxy{route: r, slots: make([]*deploy.Server, slotsFor(len(r.Servers)))})
		longest = max(longest, time.Duration(tries)*connectTimeout)
	}
	return longest
}

// outOfService is for how long an address has got no connections of a route, or a shorter time when the route's slots don't
// tell: that of the last change among them.
func outOfService(running []slot, addr netip.AddrPort) time.Duration {
	var last time.Duration
	for i, s := range running {
		if s.addr == addr && !s.ready {
			return s.age
		}
		if i == 0 || s.age < last {
			last = s.age
		}
	}
	return last
}
