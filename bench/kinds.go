package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"dokku-expose/bench/measure"
)

// kind is a kind of measurement.
type kind struct {
	name string
	// once is for what does not depend on how fast the machine is at the moment: it is taken in the first round only.
	once bool
	rows []row
	// take measures a peer and returns a value for each row, NaN for one that it has none of.
	take func(ctx context.Context, c *comparison, r running) ([]float64, error)
}

func (k kind) key() string { return k.name }

// row is a row of the table.
type row struct {
	title string
	// yes tells that a value is a truth: 1 or 0.
	yes bool
}

// idle is the name of a kind.
const idle = "idle"

var kinds = []kind{
	{
		name: idle, once: true, take: takeIdle,
		rows: []row{{title: "idle connections held"}, {title: "bytes of resident memory per idle connection"}, {title: "open files per connection"}},
	},
	{
		name: "checks", once: true, take: takeChecks,
		rows: []row{{title: halfClose, yes: true}, {title: resetPassed, yes: true}, {title: noneLost, yes: true}},
	},
	{name: "bulk1", take: takeBulk(1), rows: []row{{title: "GB/s on 1 stream"}, {title: "CPU seconds per GB, 1 stream"}}},
	{name: "bulk8", take: takeBulk(8), rows: []row{{title: "GB/s on 8 streams"}, {title: "CPU seconds per GB, 8 streams"}}},
	{
		name: "requests", take: takeRequests,
		rows: []row{{title: fmt.Sprintf("requests/s on %d connections", persistent)}, {title: "µs per request, median"}, {title: "µs per request, p99"}},
	},
	{name: "connections", take: takeConnections, rows: []row{{title: "new connections/s"}, {title: "CPU µs per new connection"}}},
}

// spent runs clients, and tells what CPU time the proxy needed for that.
func (c *comparison) spent(ctx context.Context, r running, args ...string) (found result, cpu time.Duration, err error) {
	before, err := r.usage()
	if err != nil {
		return result{}, 0, err
	}
	if found, err = c.load(ctx, r, nil, args...); err != nil {
		return result{}, 0, err
	}
	after, err := r.usage()
	return found, after.CPU - before.CPU, err
}

// each is cpu in seconds for each of n; NaN where there is no proxy, or n is 0.
func each(r running, cpu time.Duration, n float64) float64 {
	if r.process == nil || n == 0 {
		return math.NaN()
	}
	return cpu.Seconds() / n
}

func takeBulk(streams int) func(context.Context, *comparison, running) ([]float64, error) {
	return func(ctx context.Context, c *comparison, r running) ([]float64, error) {
		found, cpu, err := c.spent(ctx, r, "-streams", fmt.Sprint(streams), "bulk")
		gigabytes := float64(found.Bytes) / 1e9
		return []float64{gigabytes / found.Seconds, each(r, cpu, gigabytes)}, err
	}
}

func takeRequests(ctx context.Context, c *comparison, r running) ([]float64, error) {
	found, err := c.load(ctx, r, nil, "requests")
	return []float64{float64(found.Count) / found.Seconds, found.P50 * 1e6, found.P99 * 1e6}, err
}

func takeConnections(ctx context.Context, c *comparison, r running) ([]float64, error) {
	found, cpu, err := c.spent(ctx, r, "connections")
	return []float64{float64(found.Count) / found.Seconds, each(r, cpu, float64(found.Count)) * 1e6}, err
}

// takeIdle measures a proxy that has done nothing else yet: memory that was needed once may stay with a process.
func takeIdle(ctx context.Context, c *comparison, r running) ([]float64, error) {
	none := []float64{math.NaN(), math.NaN(), math.NaN()}
	if r.process == nil {
		return none, nil
	}
	fresh, err := r.serve(ctx, c.dir, r.origin, r.cert)
	if err != nil {
		return none, err
	}
	defer fresh.stop()
	before, err := fresh.usage()
	if err != nil {
		return none, err
	}
	var after measure.Usage
	found, err := c.load(ctx, fresh, func(result) (err error) {
		// Idle for a while first.
		time.Sleep(c.duration)
		after, err = fresh.usage()
		return err
	}, "-streams", fmt.Sprint(c.idle), idle)
	if err != nil || found.Count == 0 {
		return none, err
	}
	n := float64(found.Count)
	return []float64{n, float64(after.Memory-before.Memory) / n, float64(after.Files-before.Files) / n}, nil
}

func takeChecks(ctx context.Context, c *comparison, r running) ([]float64, error) {
	found, err := c.load(ctx, r, nil, "checks")
	var values []float64
	for _, name := range []string{halfClose, resetPassed, noneLost} {
		value := 0.0
		if found.Checks[name] {
			value = 1
		}
		values = append(values, value)
	}
	return values, err
}
