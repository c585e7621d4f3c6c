package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"dokku-expose/bench/measure"
	"dokku-expose/deploy"
)

const (
	// clientAddresses is how many addresses the clients have: their own ports must not run out.
	clientAddresses = 16
	// worldPort is what the host's own connections go to.
	worldPort = 7
)

var (
	public = netip.MustParseAddrPort("198.51.0.1:25")
	other  = netip.MustParseAddrPort("198.51.0.1:26")
	world  = netip.AddrPortFrom(netip.MustParseAddr("198.51.0.2"), worldPort)

	app      = netip.MustParseAddrPort("172.17.0.2:5025")
	otherApp = netip.MustParseAddrPort("172.17.0.3:5025")
)

// proxyNames are what can be measured. With `docker -p` no proxy has a socket: the kernel rewrites addresses.
var proxyNames = []string{"docker", "builtin", "haproxy"}

func proxyCommand(ctx context.Context, name, dir string) (*exec.Cmd, error) {
	switch name {
	case "builtin":
		return exec.CommandContext(ctx, "/proc/self/exe", "builtin"), nil
	case "haproxy":
		return measure.HAProxy(ctx, dir, routes()...)
	}
	return nil, publish()
}

// publish does what Docker does for `docker run -p`.
func publish() error {
	for _, p := range [][2]netip.AddrPort{{public, app}, {other, otherApp}} {
		command := exec.Command("iptables", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "-m", "addrtype", "--dst-type", "LOCAL",
			"--dport", strconv.Itoa(int(p[0].Port())), "-j", "DNAT", "--to-destination", p[1].String())
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("iptables (Debian: apt-get install iptables): %w: %s", err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// routes are both apps'.
func routes() []deploy.Route {
	return []deploy.Route{
		measure.Route("mail", deploy.Key{Port: public.Port()}, app),
		measure.Route("other", deploy.Key{Port: other.Port()}, otherApp),
	}
}

func runBuiltin(ctx context.Context, _ []string, _ io.Reader, _ io.Writer) error {
	return measure.ServeBuiltin(ctx, routes()...)
}

// runHost measures a proxy in the namespace that the process is in: host [FLAGS] PROXY. The report goes to stdout in JSON.
func runHost(ctx context.Context, args []string, _ io.Reader, stdout io.Writer) error {
	var o options
	flags := flag.NewFlagSet("host", flag.ContinueOnError)
	o.define(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if _, err := measure.RaiseFileLimit(1 << 17); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ports-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	if err := configureHost(o.sysctls); err != nil {
		return err
	}
	for i, addr := range []netip.AddrPort{app, otherApp} {
		if _, err := start(ctx, fmt.Sprintf("veth%d", i), "docker0", "origin", addr.Addr().String()+"/16", "172.17.0.1", strconv.Itoa(int(addr.Port()))); err != nil {
			return err
		}
	}
	clients, err := start(ctx, "outside", "", "clients", world.Addr().String()+"/16", public.Addr().String())
	if err != nil {
		return err
	}
	r := hostReport{Proxy: flags.Arg(0)}
	command, err := proxyCommand(ctx, r.Proxy, dir)
	if err != nil {
		return err
	}
	var process *measure.Process
	if command != nil {
		if process, err = measure.Start(command); err != nil {
			return err
		}
		defer process.Stop()
	}
	if process != nil {
		if err := awaitProxy(ctx, process); err != nil {
			return err
		}
	}
	orders := clientOrders{To: public, Other: other, Rate: o.rate, Duration: o.duration}
	if err := json.NewEncoder(clients.in).Encode(orders); err != nil {
		return err
	}
	r.Host = load{to: world, rate: otherRate}.run(ctx, o.duration)
	var reports [2]loadReport
	if err := json.NewDecoder(clients.out).Decode(&reports); err != nil {
		return fmt.Errorf("clients: %w", err)
	}
	r.App, r.Other = reports[0], reports[1]
	if r.TimeWait, err = timeWaits(); err != nil {
		return err
	}
	if process != nil {
		usage, err := process.Usage()
		if err != nil {
			return err
		}
		r.CPU = usage.CPU / time.Duration(max(r.App.Count, 1))
	}
	return json.NewEncoder(stdout).Encode(r)
}

// awaitProxy returns when the proxy serves both apps: it listens for one after the other.
func awaitProxy(ctx context.Context, process *measure.Process) error {
	for {
		err := errors.Join(load{to: public}.one(0), load{to: other}.one(0))
		if err == nil {
			return nil
		}
		select {
		case <-process.Done():
			return fmt.Errorf("the proxy %w: %s", errEnded, process.Log())
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// configureHost makes the namespace what a Docker host is.
func configureHost(sysctls string) error {
	for _, s := range append(strings.Fields(sysctls), "net.ipv4.ip_forward=1") {
		key, value, _ := strings.Cut(s, "=")
		if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), []byte(strings.ReplaceAll(value, ",", " ")), 0o644); err != nil {
			return err
		}
	}
	return measure.IP(`link set lo up
link add docker0 type bridge
address add 172.17.0.1/16 dev docker0
link set docker0 up
`)
}

// child is a process in a network namespace of its own.
type child struct {
	in  io.WriteCloser
	out *bufio.Reader
}

// start runs a role in a namespace of its own, behind a veth whose end on the host is a port of the bridge, or has the public address.
func start(ctx context.Context, name, bridge string, args ...string) (child, error) {
	command := alone(ctx, args...)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		return child{}, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return child{}, err
	}
	if err := command.Start(); err != nil {
		return child{}, err
	}
	go func() { _ = command.Wait() }()
	batch := fmt.Sprintf("link add %s type veth peer name eth0 netns %d\n", name, command.Process.Pid)
	if bridge != "" {
		batch += fmt.Sprintf("link set %s master %s\n", name, bridge)
	} else {
		batch += fmt.Sprintf("address add %s/16 dev %s\n", public.Addr(), name)
	}
	if err := measure.IP(batch + "link set " + name + " up\n"); err != nil {
		return child{}, err
	}
	c := child{in, bufio.NewReader(out)}
	if _, err := io.WriteString(in, "connected\n"); err != nil {
		return c, err
	}
	if _, err := c.out.ReadString('\n'); err != nil {
		return c, fmt.Errorf("%s: %w", args[0], errEnded)
	}
	return c, nil
}

// join waits until the host has connected the interface, and configures it.
func join(stdin *bufio.Reader, address, gateway string) error {
	if _, err := stdin.ReadString('\n'); err != nil {
		return err
	}
	return measure.IP(fmt.Sprintf("link set lo up\naddress add %s dev eth0\nlink set eth0 up\nroute add default via %s\n", address, gateway))
}

// timeWaits counts the host's sockets in TIME_WAIT.
func timeWaits() (int, error) {
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var inuse, orphan, tw int
		if n, _ := fmt.Sscanf(line, "TCP: inuse %d orphan %d tw %d", &inuse, &orphan, &tw); n == 3 {
			return tw, nil
		}
	}
	return 0, fmt.Errorf("/proc/net/sockstat: %s", text)
}
