package haproxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dokku-expose/deploy"
)

const (
	// convergeTimeout bounds how long HAProxy may take to do as told.
	convergeTimeout = 20 * time.Second
	// pollInterval is the pause between two looks at HAProxy.
	pollInterval = 10 * time.Millisecond
)

// converge makes the running worker's networks what acls say and its slots what proxies want, and reads back that they are. now is
// what the worker does, read a moment ago; before is what was in force when all this began: what served then needs no new proof.
func (e *Engine) converge(ctx context.Context, proxies []proxy, acls []acl, now, before *snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, convergeTimeout)
	defer cancel()
	_, unlike, err := nextCommands(proxies, now)
	if err != nil {
		return err
	}
	// Whoever has connections moved waits for that. An Apply that has nothing to move, as the daemon's next one, looks at more.
	if err := e.convergeNetworks(ctx, acls, len(unlike) == 0); err != nil {
		return err
	}
	if err := e.execute(ctx, marks(proxies, now, before)); err != nil {
		return err
	}
	pid := now.pid
	return e.steps(ctx, "HAProxy's servers are as they should be", func() (commands []string, err error) {
		if now == nil {
			// Of a thousand proxies only those are looked at again that were to change, unless all are another worker's now.
			if now, err = e.readProxies(ctx, unlike); err == nil && now.pid != pid {
				unlike, pid = proxies, now.pid
				now, err = e.read(ctx)
			}
			if err != nil {
				return nil, err
			}
		}
		commands, unlike, err = nextCommands(unlike, now)
		now = nil
		return commands, err
	})
}

// steps has commands executed until next has no more of them. It waits a moment only when HAProxy did not do what it was told.
func (e *Engine) steps(ctx context.Context, what string, next func() ([]string, error)) error {
	var last []string
	for {
		commands, err := next()
		if err != nil || len(commands) == 0 {
			return err
		}
		if slices.Equal(commands, last) {
			select {
			case <-time.After(pollInterval):
			case <-ctx.Done():
				return fmt.Errorf("waited until %s: %w", what, ctx.Err())
			}
		}
		if err := e.execute(ctx, commands); err != nil {
			return err
		}
		last = commands
	}
}

// marks corrects, once, what HAProxy thinks of servers that are in place: a proven one is up without waiting for the next
// check, and one that nobody has seen accept is down until a check has, although a worker starts by taking all for up.
func marks(proxies []proxy, now, before *snapshot) []string {
	var commands []string
	for _, p := range proxies {
		running := now.proxies[p.name]
		for i, server := range p.slots {
			if server == nil || i >= len(running) || !running[i].ready || running[i].addr != server.Addr || !p.checked() {
				continue
			}
			served := slices.ContainsFunc(before.proxies[p.name], func(s slot) bool { return s.addr == server.Addr && s.serving() })
			switch up := running[i].up; {
			case server.Proven && !up:
				commands = append(commands, p.set(i, "health up"))
			case !server.Proven && up && !served:
				commands = append(commands, p.set(i, "health down"))
			}
		}
	}
	return commands
}

// nextCommands is the next step from now to proxies, none when there is nothing left to do, and the proxies that are not as they
// should be yet. New servers get their addresses; when these can be read back they are made ready, for HAProxy 3.0 and newer say
// that they have changed an address a moment before they do, and the former one may be somebody else's by now; when they are ready,
// the old ones leave.
func nextCommands(proxies []proxy, now *snapshot) (commands []string, unlike []proxy, err error) {
	var addresses, ready, leave []string
	for _, p := range proxies {
		running := now.proxies[p.name]
		if len(running) != len(p.slots) {
			return nil, nil, fmt.Errorf("HAProxy runs public port %s of %s with %d server slots, not %d: something else has reloaded it",
				p.route.Key, p.route.App, len(running), len(p.slots))
		}
		like := true
		for i, server := range p.slots {
			switch s := running[i]; {
			case server == nil && s.ready:
				leave = append(leave, p.set(i, "state maint"))
			case server == nil || s.addr == server.Addr && s.ready:
				continue
			case s.addr != server.Addr:
				addresses = append(addresses, p.set(i, fmt.Sprintf("addr %s port %d", server.Addr.Addr(), server.Addr.Port())))
			default:
				// Ready means up at once, proven or not.
				ready = append(ready, p.set(i, "state ready"))
				if !server.Proven && p.checked() {
					ready = append(ready, p.set(i, "health down"))
				}
			}
			like = false
		}
		if !like {
			unlike = append(unlike, p)
		}
	}
	switch {
	case len(addresses) > 0:
		return addresses, unlike, nil
	case len(ready) > 0:
		return ready, unlike, nil
	}
	return leave, unlike, nil
}

// set is the command that sets something of the server in slot i.
func (p proxy) set(i int, what string) string {
	return fmt.Sprintf("set server %s/%s %s", p.name, slotName(i), what)
}

func (p proxy) checked() bool { return p.route.HealthCheck > 0 }

// asRunning is what has to be wanted to have what ran at the time of s.
func asRunning(s *snapshot) []proxy {
	var proxies []proxy
	for name, running := range s.proxies {
		app, listen, _ := parseName(name)
		p := proxy{name: name, route: deploy.Route{App: app, Key: listen}, slots: make([]*deploy.Server, len(running))}
		for i, slot := range running {
			if slot.ready {
				p.slots[i] = &deploy.Server{Addr: slot.addr, Proven: slot.up}
			}
		}
		proxies = append(proxies, p)
	}
	return proxies
}

// await asks until it is done, and says what it waited for when the time is over.
func await(ctx context.Context, what string, ask func() (done bool, err error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		done, err := ask()
		if done {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited until %s: %w", what, errors.Join(ctx.Err(), err))
		}
	}
}
