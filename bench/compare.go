package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"dokku-expose/bench/measure"
	"dokku-expose/internal/freeport"
	"dokku-expose/internal/testcert"
)

// options say what is to be measured.
type options struct {
	rounds   int
	duration time.Duration
	idle     int
	kinds    []kind
	peers    []peer
	mode     mode
	// rate is how many datagrams a second are sent for the share that gets lost.
	rate     int
	progress io.Writer
}

// comparison is one run.
type comparison struct {
	options
	dir     string
	cert    *testcert.Certificate // nil without TLS
	machine string
	idle    int
	// samples are the values of each round, by peer and by the title of the row.
	samples map[string]map[string][]float64
	// notes are what has to be said beside the values.
	notes []string
}

// spareFiles are for all that a proxy has open beside its connections.
const spareFiles = 512

// compare measures the peers and returns the report.
func compare(ctx context.Context, o options) (_ string, err error) {
	files, err := measure.RaiseFileLimit(uint64(4 * o.idle))
	if err != nil {
		return "", err
	}
	machine, err := measure.Machine()
	if err != nil {
		return "", err
	}
	c := &comparison{options: o, machine: machine, idle: o.idle, samples: make(map[string]map[string][]float64)}
	if fit := (int(files) - spareFiles) / 2; fit < o.idle {
		c.idle = fit / 1000 * 1000
	}
	if slices.ContainsFunc(o.kinds, func(k kind) bool { return k.name == idle }) {
		c.note("%d idle connections are tried (a process may have %d files open here); one that is not answered within %s is not held.",
			c.idle, files, answerTimeout)
	}
	if slices.ContainsFunc(o.kinds, func(k kind) bool { return k.name == loss }) {
		c.note("The given rate is %s datagrams/s of %d bytes.", measure.Number(float64(o.rate)), requestSize)
	}
	if c.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.dir)) }()

	if o.mode == overTLS {
		cert, err := testcert.Make(c.dir, time.Hour, "bench.example.com")
		if err != nil {
			return "", err
		}
		c.cert = &cert
	}

	all, stop, err := c.start(ctx)
	defer stop()
	if err != nil {
		return "", err
	}
	for round := range o.rounds {
		for _, k := range o.kinds {
			if k.once && round > 0 {
				continue
			}
			fmt.Fprintf(o.progress, "round %d of %d: %s\n", round+1, o.rounds, k.name)
			for _, r := range all {
				if err := c.sample(ctx, k, r); err != nil {
					return "", fmt.Errorf("%s of %s: %w", k.name, r.title, err)
				}
			}
		}
	}
	return c.report(all), nil
}

// start runs the origin, and those peers that this machine has.
func (c *comparison) start(ctx context.Context) (all []running, stop func(), err error) {
	stop = func() {
		for _, r := range all {
			r.stop()
		}
	}
	port, err := freeport.Take()
	if err != nil {
		return nil, stop, err
	}
	// An address of the origin for each, or the connections of one would take the next one's ports.
	args := []string{"origin"}
	var origins []netip.AddrPort
	for i := range c.peers {
		origins = append(origins, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + i)}), port))
		args = append(args, origins[i].String())
	}
	command, err := self(ctx, args...)
	if err != nil {
		return nil, stop, err
	}
	origin, err := measure.Start(command)
	if err != nil {
		return nil, stop, err
	}
	peersOnly := stop
	stop = func() {
		peersOnly()
		origin.Stop()
	}
	if err := awaitEcho(ctx, origins[len(origins)-1], overUDP, origin); err != nil {
		return nil, stop, fmt.Errorf("the origin: %w", err)
	}
	for i, p := range c.peers {
		r, err := p.serve(ctx, site{mode: c.mode, dir: c.dir, origin: origins[i], cert: c.cert})
		switch {
		case errors.Is(err, measure.ErrMissing):
			c.note("%s is left out: %v.", p.title, err)
			fmt.Fprintf(c.progress, "%s is left out: %v\n", p.title, err)
			continue
		case err != nil:
			return nil, stop, err
		}
		all = append(all, r)
	}
	return all, stop, nil
}

// sample takes one measurement of one peer.
func (c *comparison) sample(ctx context.Context, k kind, r running) error {
	if k.fresh && r.process != nil {
		fresh, err := r.serve(ctx, r.site)
		if err != nil {
			return err
		}
		defer fresh.stop()
		r = fresh
	}
	values, err := k.take(ctx, c, r)
	if err != nil {
		return err
	}
	if c.samples[r.name] == nil {
		c.samples[r.name] = make(map[string][]float64)
	}
	for i, row := range k.rows {
		c.samples[r.name][row.title] = append(c.samples[r.name][row.title], values[i])
	}
	return nil
}

// load runs clients against a peer. when they have a result, and before their connections end that are to stay, during is called.
func (c *comparison) load(ctx context.Context, r running, during func(result) error, args ...string) (found result, err error) {
	command, err := self(ctx, append([]string{"load", "-mode", string(r.mode), "-to", r.listen.String(), "-origin", r.origin.String(), "-for", c.duration.String()}, args...)...)
	if err != nil {
		return result{}, err
	}
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		return result{}, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return result{}, err
	}
	if err := command.Start(); err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, stdin.Close(), command.Wait()) }()
	if err := json.NewDecoder(stdout).Decode(&found); err != nil {
		return result{}, fmt.Errorf("clients of %s: %w", r.title, err)
	}
	if found.Failed > 0 {
		c.note("%s, %s: %d failed: %s.", r.title, args[len(args)-1], found.Failed, strings.Join(found.Failures, "; "))
	}
	if during != nil {
		err = during(found)
	}
	return found, err
}

func (c *comparison) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}
