package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"dokku-expose/bench/measure"
	"dokku-expose/internal/freeport"
)

// peer is a proxy to be measured.
type peer struct {
	name, title string
	// command makes what it needs in the folder dir, and the command that proxies from listen to origin. An error that wraps
	// measure.ErrMissing says what is not installed. Nil: there is no proxy, clients connect to the origin itself.
	command func(ctx context.Context, dir string, listen, origin netip.AddrPort) (*exec.Cmd, error)
}

func (p peer) key() string { return p.name }

// reference is the name of the peer that all others are compared with.
const reference = "haproxy"

var peers = []peer{
	{"builtin", "built-in engine", ownRole("builtin")},
	{reference, "HAProxy, this project's", haproxyAsConfigured},
	{"splice", "HAProxy, forced splice", haproxyByHand("tune.pipesize 524288", "option splice-request", "option splice-response")},
	{"auto", "HAProxy, splice-auto", haproxyByHand("", "option splice-auto")},
	{"nginx", "nginx stream", nginxStream},
	{"plain", "two io.Copy in Go", ownRole("plain")},
	{"direct", "no proxy", nil},
}

// ownRole is a proxy that this program is itself.
func ownRole(role string) func(context.Context, string, netip.AddrPort, netip.AddrPort) (*exec.Cmd, error) {
	return func(ctx context.Context, _ string, listen, origin netip.AddrPort) (*exec.Cmd, error) {
		return self(ctx, role, listen.String(), origin.String())
	}
}

// self runs this program in a role.
func self(ctx context.Context, args ...string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, program, args...), nil
}

// running is a peer that serves.
type running struct {
	peer
	// addr is where clients connect, origin what answers them in the end.
	addr, origin netip.AddrPort
	process      *measure.Process // nil without a proxy
}

// serve starts the peer and returns when it serves. Its files are in a folder of its own below dir.
func (p peer) serve(ctx context.Context, dir string, origin netip.AddrPort) (running, error) {
	if p.command == nil {
		return running{peer: p, addr: origin, origin: origin}, nil
	}
	dir, err := os.MkdirTemp(dir, p.name)
	if err != nil {
		return running{}, err
	}
	port, err := freeport.Take()
	if err != nil {
		return running{}, err
	}
	listen := netip.AddrPortFrom(loopback, port)
	command, err := p.command(ctx, dir, listen, origin)
	if err != nil {
		return running{}, err
	}
	process, err := measure.Start(command)
	if err != nil {
		return running{}, err
	}
	r := running{peer: p, addr: listen, origin: origin, process: process}
	if err := awaitEcho(ctx, listen, process); err != nil {
		r.stop()
		return running{}, fmt.Errorf("%s: %w", p.title, err)
	}
	return r, nil
}

func (r running) stop() {
	if r.process != nil {
		r.process.Stop()
	}
}

// usage is what the proxy has used; nothing where there is none.
func (r running) usage() (measure.Usage, error) {
	if r.process == nil {
		return measure.Usage{}, nil
	}
	return r.process.Usage()
}

// startPatience is how long a program may take to serve.
const startPatience = 10 * time.Second

// awaitEcho returns when a connection to addr leads to the origin.
func awaitEcho(ctx context.Context, addr netip.AddrPort, process *measure.Process) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		err := tryEcho(ctx, addr)
		if err == nil {
			return nil
		}
		select {
		case <-process.Done():
			return fmt.Errorf("ended: %s", process.Log())
		case <-ctx.Done():
			return fmt.Errorf("does not serve on %s: %w: %s", addr, err, process.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func tryEcho(ctx context.Context, addr netip.AddrPort) error {
	conn, err := connect(ctx, addr, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	return echo(conn)
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
