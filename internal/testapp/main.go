// Command testapp is the app that tests and the demo deploy: a line server that says who it is, so that a client knows
// which container answered it.
//
// On each of its ports it greets a connection with one line, "VERSION ID PORT", and then sends back every line it gets. Datagrams of UDP it
// sends back with that line before them. On
// SIGTERM it does what a well-made server does: it stops accepting, and the connections it has may go on for a while. All
// of it is set by flags or, in a container, by the environment variables of the same name (LISTEN_DELAY for
// -listen-delay); a flag wins. It also misbehaves on demand, as apps do.
//
// It is one static binary for an image made FROM scratch, and runs as a plain process just as well. It knows nothing of
// Dokku, of HAProxy or of the tests.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := run(ctx, os.Args[1:], os.LookupEnv, os.Stderr)
	stop()
	os.Exit(code)
}

// config is what the app was told to be.
type config struct {
	ports   []uint16
	udp     []uint16
	bind    string
	network string
	version string
	id      string
	say     string
	linger  time.Duration

	listenDelay time.Duration
	noListen    bool
	slam        bool
	exitAfter   time.Duration
	exitCode    int
}

func run(ctx context.Context, args []string, env func(string) (string, bool), stderr io.Writer) int {
	cfg, err := configure(args, env, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "testapp: %v\n", err)
		return 2
	}
	if cfg.say != "" {
		fmt.Fprintln(stderr, cfg.say)
	}
	if err := serve(ctx, cfg, stderr); err != nil {
		fmt.Fprintf(stderr, "testapp: %v\n", err)
		return 1
	}
	return cfg.exitCode
}

func configure(args []string, env func(string) (string, bool), stderr io.Writer) (config, error) {
	var cfg config
	flags := flag.NewFlagSet("testapp", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Func("ports", "TCP `ports` to listen on, separated by commas", func(s string) (err error) {
		cfg.ports, err = parsePorts(s)
		return err
	})
	flags.Func("udp-ports", "UDP `ports` to answer on", func(s string) (err error) {
		cfg.udp, err = parsePorts(s)
		return err
	})
	flags.StringVar(&cfg.bind, "bind", "", "`address` to listen on; empty for all of them")
	flags.StringVar(&cfg.network, "network", "tcp", "`tcp` or tcp6; tcp6 leaves IPv4 out where every address is listened on")
	flags.StringVar(&cfg.version, "version", "v0", "the version named in the greeting")
	flags.StringVar(&cfg.id, "id", "", "the id named in the greeting; empty for the host name, which Docker sets to the container's id")
	flags.StringVar(&cfg.say, "say", "", "what to write to the standard error at the start")
	flags.DurationVar(&cfg.linger, "linger", 5*time.Second, "how long established connections may go on after SIGTERM")
	flags.DurationVar(&cfg.listenDelay, "listen-delay", 0, "how long to wait before listening")
	flags.BoolVar(&cfg.noListen, "nolisten", false, "run, but never listen")
	flags.BoolVar(&cfg.slam, "slam", false, "close every connection right after accepting it")
	flags.DurationVar(&cfg.exitAfter, "exit-after", 0, "crash with exit status 1 after this time; 0 never")
	flags.IntVar(&cfg.exitCode, "exit-code", 0, "exit status after SIGTERM")

	// The environment first: what is on the command line then overrides it.
	var err error
	flags.VisitAll(func(f *flag.Flag) {
		name := strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value, ok := env(name); ok && err == nil {
			if e := f.Value.Set(value); e != nil {
				err = fmt.Errorf("environment variable %s=%q: %w", name, value, e)
			}
		}
	})
	if err != nil {
		return config{}, err
	}
	if err := flags.Parse(args); err != nil {
		return config{}, err
	}
	if flags.NArg() > 0 {
		return config{}, fmt.Errorf("unexpected argument %q: everything is set by flags", flags.Arg(0))
	}
	if len(cfg.ports)+len(cfg.udp) == 0 && !cfg.noListen {
		return config{}, fmt.Errorf("no port to listen on: set PORTS or -ports, for example 5025,5993")
	}
	if cfg.id == "" {
		if cfg.id, err = os.Hostname(); err != nil {
			return config{}, fmt.Errorf("the host name, for the greeting: %w; set -id", err)
		}
	}
	return cfg, nil
}

func parsePorts(s string) ([]uint16, error) {
	var ports []uint16
	for field := range strings.SplitSeq(s, ",") {
		port, err := strconv.ParseUint(strings.TrimSpace(field), 10, 16)
		if err != nil || port == 0 {
			return nil, fmt.Errorf("%q is no port: want a number from 1 to 65535", field)
		}
		ports = append(ports, uint16(port))
	}
	return ports, nil
}
