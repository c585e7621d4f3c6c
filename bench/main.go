// Command bench measures what a proxy costs: this project's built-in engine, HAProxy as this project configures it, and their
// peers, side by side in one run.
//
// Each proxy is a process of its own, and so are the clients and the server behind it, so that what they cost does not count as
// the proxy's: the program runs itself with the name of a role as the first argument. All of it is on loopback addresses. Rounds
// are interleaved, each proxy in turn, for a machine's speed drifts.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"dokku-expose/bench/measure"
)

func main() { os.Exit(measure.Main(run, roles)) }

var roles = measure.Roles{
	"origin":  serveOrigin,
	"builtin": serveBuiltin,
	"plain":   servePlain,
	"load":    runLoad,
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o := options{progress: stderr}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rounds, "rounds", 5, "how often each proxy is measured")
	seconds := flags.Float64("seconds", 1, "how long each measurement takes")
	o.mode = overTCP
	flags.BoolFunc("tls", "have clients speak TLS, with the peers that can", o.mode.set(overTLS))
	flags.BoolFunc("udp", "have clients speak UDP, with the peers that can", o.mode.set(overUDP))
	flags.IntVar(&o.idle, "idle", 10_000, fmt.Sprintf("how many idle connections are tried, of UDP %d at the most", mostSessions))
	flags.IntVar(&o.rate, "rate", 10_000, "datagrams a second of which the loss is measured")
	only := flags.String("only", "", "measures to take, of "+names(kinds, kind.key)+"; of UDP "+names(datagramKinds, kind.key)+"; all by default")
	who := flags.String("peers", "", "proxies to measure, of "+names(peers, peer.key)+"; all by default")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	var err error
	o.duration = time.Duration(*seconds * float64(time.Second))
	if o.kinds, err = choose(o.mode.kinds(), kind.key, *only); err == nil {
		o.peers, err = choose(peers, peer.key, *who)
	}
	o.peers = slices.DeleteFunc(slices.Clone(o.peers), func(p peer) bool { return !p.speaks(o.mode) })
	switch o.mode {
	case overTLS:
		// These are about TCP.
		o.kinds = slices.DeleteFunc(slices.Clone(o.kinds), func(k kind) bool { return k.name == "checks" })
	case overUDP:
		o.idle = min(o.idle, mostSessions)
	}
	if err == nil && (o.rounds < 1 || o.duration <= 0 || o.idle < 1 || o.rate < 1 || flags.NArg() > 0) {
		err = fmt.Errorf("expected positive numbers and nothing else, got %s", strings.Join(args, " "))
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	report, err := compare(ctx, o)
	if err == nil {
		_, err = io.WriteString(stdout, report)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

func names[T any](all []T, name func(T) string) string {
	var list []string
	for _, one := range all {
		list = append(list, name(one))
	}
	return strings.Join(list, ",")
}

// choose picks those of all that a comma-separated list names, all for "".
func choose[T any](all []T, name func(T) string, list string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	wanted := strings.Split(list, ",")
	for _, w := range wanted {
		if !slices.ContainsFunc(all, func(one T) bool { return name(one) == w }) {
			return nil, fmt.Errorf("there is no %q, only %s", w, names(all, name))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(one T) bool { return !slices.Contains(wanted, name(one)) }), nil
}
