package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"dokku-expose/bench/measure"
	"dokku-expose/internal/freeport"
	"dokku-expose/internal/testcert"
)

// peer is a proxy to be measured.
type peer struct {
	name, title string
	// command makes what it needs for its site, and the command that proxies there. An error that wraps measure.ErrMissing says what is
	// not installed. Nil: there is no proxy, clients connect to the origin itself.
	command func(ctx context.Context, s site) (*exec.Cmd, error)
	// modes are those that it has a part in.
	modes []mode
}

// site is where a peer proxies from and to, and the folder for its files.
type site struct {
	mode           mode
	dir            string
	listen, origin netip.AddrPort
	cert           *testcert.Certificate // nil without TLS
}

// bundle is the file that has certificate and key.
func (s site) bundle() (string, error) {
	chain, err := os.ReadFile(s.cert.Chain)
	key, keyErr := os.ReadFile(s.cert.Key)
	path := filepath.Join(s.dir, "bundle.pem")
	return path, errors.Join(err, keyErr, os.WriteFile(path, append(chain, key...), 0o600))
}

func (p peer) key() string { return p.name }

// speaks tells whether the peer has a part in a comparison of that mode.
func (p peer) speaks(m mode) bool { return slices.Contains(p.modes, m) }

var peers = []peer{
	{"builtin", "built-in engine", ownRole("builtin"), []mode{overTCP, overTLS, overUDP}},
	{"haproxy", "HAProxy, this project's", haproxyAsConfigured, []mode{overTCP, overTLS}},
	{"splice", "HAProxy, forced splice", haproxyByHand("tune.pipesize 524288", "option splice-request", "option splice-response"), []mode{overTCP}},
	{"auto", "HAProxy, splice-auto", haproxyByHand("", "option splice-auto"), []mode{overTCP, overTLS}},
	{"nginx", "nginx stream", nginxStream, []mode{overTCP, overTLS, overUDP}},
	{"stunnel", "stunnel", stunnel, []mode{overTLS}},
	{"docker", "docker-proxy", dockerProxy, []mode{overUDP}},
	{"plain", "two io.Copy in Go", ownRole("plain"), []mode{overTCP}},
	{"direct", "no proxy", nil, []mode{overTCP, overUDP}},
}

// ownRole is a proxy that this program is itself.
func ownRole(role string) func(context.Context, site) (*exec.Cmd, error) {
	return func(ctx context.Context, s site) (*exec.Cmd, error) {
		args := []string{role, string(s.mode), s.listen.String(), s.origin.String()}
		if s.cert != nil {
			args = append(args, s.cert.Chain, s.cert.Key)
		}
		return self(ctx, args...)
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
	site
	process *measure.Process // nil without a proxy
}

// serve starts the peer at a port of its own and returns when it serves. Its files are in a folder of its own below that of the site.
func (p peer) serve(ctx context.Context, s site) (_ running, err error) {
	if p.command == nil {
		s.listen = s.origin
		return running{peer: p, site: s}, nil
	}
	if s.dir, err = os.MkdirTemp(s.dir, p.name); err != nil {
		return running{}, err
	}
	port, err := freeport.Take()
	if err != nil {
		return running{}, err
	}
	s.listen = netip.AddrPortFrom(loopback, port)
	command, err := p.command(ctx, s)
	if err != nil {
		return running{}, err
	}
	process, err := measure.Start(command)
	if err != nil {
		return running{}, err
	}
	r := running{peer: p, site: s, process: process}
	if err := awaitEcho(ctx, s.listen, s.mode, process); err != nil {
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
func awaitEcho(ctx context.Context, addr netip.AddrPort, m mode, process *measure.Process) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		err := tryEcho(ctx, addr, m)
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

func tryEcho(ctx context.Context, addr netip.AddrPort, m mode) error {
	conn, err := connect(ctx, addr, 0, m)
	if err != nil {
		return err
	}
	defer conn.Close()
	return echo(conn)
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
