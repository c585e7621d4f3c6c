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
	// fresh is for what a proxy has to have done nothing before: memory that was needed once may stay with a process.
	fresh bool
	rows  []row
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

// idle and loss are the kinds that a note explains.
const idle, loss = "idle", "loss"

var kinds = []kind{
	{
		name: idle, once: true, fresh: true, take: takeIdle,
		rows: []row{{title: "idle connections held"}, {title: "bytes of resident memory per idle connection"}, {title: "open files per connection"}},
	},
	{
		name: "checks", once: true, take: takeChecks,
		rows: []row{{title: halfClose, yes: true}, {title: resetPassed, yes: true}, {title: noneLost, yes: true}},
	},
	{name: "bulk1", take: takeBulk("-streams", "1", "bulk"), rows: []row{{title: "GB/s on 1 stream"}, {title: "CPU seconds per GB, 1 stream"}}},
	{name: "bulk8", take: takeBulk("-streams", "8", "bulk"), rows: []row{{title: "GB/s on 8 streams"}, {title: "CPU seconds per GB, 8 streams"}}},
	{
		name: "requests", take: takeRequests,
		rows: requestRows(fmt.Sprintf("requests/s on %d connections", persistent)),
	},
	{name: "connections", take: takeRate("connections"), rows: []row{{title: "new connections/s"}, {title: "CPU µs per new connection"}}},
}

// datagramKinds are those of UDP, where a session is what a proxy has for a client's address and port.
var datagramKinds = []kind{
	{
		name: idle, once: true, fresh: true, take: takeIdle,
		rows: []row{{title: "idle sessions held"}, {title: "bytes of resident memory per idle session"}, {title: "open files per session"}},
	},
	{name: "requests", take: takeRequests, rows: requestRows(fmt.Sprintf("requests/s of %d clients", persistent))},
	{
		name: "small", take: takeRate("-size", fmt.Sprint(requestSize), "send"),
		rows: []row{{title: fmt.Sprintf("datagrams/s one way, %d bytes", requestSize)}, {title: "CPU µs per datagram"}},
	},
	{
		name: "bulk1", take: takeBulk("-size", fmt.Sprint(packetSize), "send"),
		rows: []row{{title: fmt.Sprintf("GB/s one way, %d bytes, 1 client", packetSize)}, {title: "CPU seconds per GB, 1 client"}},
	},
	{
		name: "bulk8", take: takeBulk("-size", fmt.Sprint(packetSize), "-streams", "8", "send"),
		rows: []row{{title: fmt.Sprintf("GB/s one way, %d bytes, 8 clients", packetSize)}, {title: "CPU seconds per GB, 8 clients"}},
	},
	{name: loss, take: takeLoss, rows: []row{{title: "percent lost at the given rate"}}},
	// A session stays long after its client is gone, and those of all rounds are more than there are ports.
	{name: "sessions", fresh: true, take: takeRate("connections"), rows: []row{{title: "new sessions/s"}, {title: "CPU µs per new session"}}},
}

func requestRows(rate string) []row {
	return []row{{title: rate}, {title: "µs per request, median"}, {title: "µs per request, p99"}, {title: "CPU µs per request"}}
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

// takeBulk measures how many bytes a load moves, and what that costs.
func takeBulk(load ...string) func(context.Context, *comparison, running) ([]float64, error) {
	return func(ctx context.Context, c *comparison, r running) ([]float64, error) {
		found, cpu, err := c.spent(ctx, r, load...)
		gigabytes := float64(found.Bytes) / 1e9
		return []float64{gigabytes / found.Seconds, each(r, cpu, gigabytes)}, err
	}
}

func takeRequests(ctx context.Context, c *comparison, r running) ([]float64, error) {
	found, cpu, err := c.spent(ctx, r, "requests")
	n := float64(found.Count)
	return []float64{n / found.Seconds, found.P50 * 1e6, found.P99 * 1e6, each(r, cpu, n) * 1e6}, err
}

// takeRate measures how often a load does what it does, and what that costs.
func takeRate(load ...string) func(context.Context, *comparison, running) ([]float64, error) {
	return func(ctx context.Context, c *comparison, r running) ([]float64, error) {
		found, cpu, err := c.spent(ctx, r, load...)
		n := float64(found.Count)
		return []float64{n / found.Seconds, each(r, cpu, n) * 1e6}, err
	}
}

func takeLoss(ctx context.Context, c *comparison, r running) ([]float64, error) {
	found, err := c.load(ctx, r, nil, "-size", fmt.Sprint(requestSize), "-rate", fmt.Sprint(c.rate), "send")
	return []float64{found.Lost * 100}, err
}

func takeIdle(ctx context.Context, c *comparison, r running) ([]float64, error) {
	none := []float64{math.NaN(), math.NaN(), math.NaN()}
	if r.process == nil {
		return none, nil
	}
	before, err := r.usage()
	if err != nil {
		return none, err
	}
	var after measure.Usage
	found, err := c.load(ctx, r, func(result) (err error) {
		// Idle for a while first.
		time.Sleep(c.duration)
		after, err = r.usage()
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
