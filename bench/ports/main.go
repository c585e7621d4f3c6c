// Command ports measures what short connections cost a proxy's source ports: clients on another host connect, read a greeting and
// close first, so that each connection of the proxy to the container ends in TIME_WAIT on the proxy's side and keeps its port.
//
// Loopback hides that. Each proxy gets a network namespace like a Docker host's, with the bridge docker0, two containers on it and
// clients behind a veth with an MTU of 1500, each of these in a namespace of its own. Beside the clients of one app it measures a
// few clients of another app and a few outgoing connections of the host, which must not suffer.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"dokku-expose/bench/measure"
)

func main() { os.Exit(measure.Main(run, roles)) }

// roles have some of them a network namespace of their own.
var roles = measure.Roles{
	"host":    runHost,
	"origin":  runOrigin,
	"clients": runClients,
	"builtin": runBuiltin,
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("ports", flag.ContinueOnError)
	flags.SetOutput(stderr)
	o.define(flags)
	who := flags.String("proxies", strings.Join(proxyNames, ","), "what to measure")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	chosen := strings.Split(*who, ",")
	unknown := slices.ContainsFunc(chosen, func(name string) bool { return !slices.Contains(proxyNames, name) })
	if unknown || o.rate < 1 || o.duration <= 0 || flags.NArg() > 0 {
		fmt.Fprintf(stderr, "ports: expected a positive rate and duration, and proxies of %s, got %s\n", strings.Join(proxyNames, ","), strings.Join(args, " "))
		return 2
	}
	var reports []hostReport
	for _, name := range chosen {
		fmt.Fprintf(stderr, "%s: %d connections/s for %s\n", name, o.rate, o.duration)
		r, err := measureHost(ctx, name, flags)
		if err != nil {
			fmt.Fprintf(stderr, "ports: %s: %v\n", name, err)
			return 1
		}
		reports = append(reports, r)
	}
	machine, err := measure.Machine()
	if err != nil {
		fmt.Fprintln(stderr, "ports:", err)
		return 1
	}
	fmt.Fprintf(stdout, "%s\n\n%s", machine, table(reports))
	return 0
}

// options are those that the process of each host gets too.
type options struct {
	rate     int
	duration time.Duration
	// sysctls are KEY=VALUE of the host, separated by blanks.
	sysctls string
}

func (o *options) define(flags *flag.FlagSet) {
	flags.IntVar(&o.rate, "rate", 1500, "new connections a second of the app under load")
	flags.DurationVar(&o.duration, "for", 2*time.Minute, "how long")
	flags.StringVar(&o.sysctls, "sysctl", "net.ipv4.tcp_tw_reuse=1", "the host's kernel settings, separated by blanks; by default those of an installation")
}

// measureHost measures one proxy on a host of its own: what ports an earlier one has left in TIME_WAIT must not count.
func measureHost(ctx context.Context, name string, flags *flag.FlagSet) (r hostReport, err error) {
	args := []string{"host"}
	flags.VisitAll(func(f *flag.Flag) {
		if f.Name != "proxies" {
			args = append(args, "-"+f.Name+"="+f.Value.String())
		}
	})
	command := alone(ctx, append(args, name)...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

// alone is this program in a network namespace of its own.
func alone(ctx context.Context, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "/proc/self/exe", args...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	return command
}

// hostReport is what became of the connections on one host.
type hostReport struct {
	Proxy string
	// App is the app under load, Other another one on the same host, Host the host's own outgoing connections.
	App, Other, Host loadReport
	// TimeWait are the sockets in that state on the host in the end.
	TimeWait int
	// CPU is what the proxy used for each connection.
	CPU time.Duration
}

func table(reports []hostReport) string {
	rows := [][]string{{"proxy", "connections", "lost", "p50 ms", "p99 ms", "max ms", "other app: lost", "p50 ms", "p99 ms", "host: lost", "p50 ms", "p99 ms", "TIME_WAIT", "CPU µs"}}
	for _, r := range reports {
		row := []string{r.Proxy, measure.Number(float64(r.App.Count))}
		for _, l := range []loadReport{r.App, r.Other, r.Host} {
			row = append(row, measure.Number(float64(l.Lost)), measure.Number(l.P50), measure.Number(l.P99))
		}
		row = slices.Insert(row, 5, measure.Number(r.App.Max))
		rows = append(rows, append(row, measure.Number(float64(r.TimeWait)), measure.Number(float64(r.CPU.Microseconds()))))
	}
	text := measure.Table(rows)
	for _, r := range reports {
		for what, l := range map[string]loadReport{"app": r.App, "other app": r.Other, "host": r.Host} {
			if l.Lost > 0 {
				text += fmt.Sprintf("\n%s, %s: %s", r.Proxy, what, strings.Join(l.Failures, "; "))
			}
		}
	}
	return text
}

var errEnded = errors.New("ended before it was ready")
