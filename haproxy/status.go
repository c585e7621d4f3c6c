package haproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"dokku-expose/deploy"
)

// Status is what the running HAProxy says of itself.
type Status struct {
	// Running tells whether HAProxy answers. When it does not, the other fields are zero.
	Running bool
	// Version is HAProxy's own ("2.6.12-1+deb12u4").
	Version string
	// MaxConnections is the most that it takes, Asked what it was to take, 0 for as many as can be had.
	MaxConnections, Asked int
	// Master and Worker are process ids; OldWorkers are those of workers that a reload left to their last connections.
	Master, Worker int
	OldWorkers     []int
	// Stats is where the statistics page listens, the zero value when nowhere.
	Stats netip.AddrPort
	// Stale says how the running HAProxy differs from its configuration file, "" when it does not. An Apply puts it right.
	Stale string
}

// Status asks the running HAProxy. That it does not run is no error.
func (e *Engine) Status(ctx context.Context) (Status, error) {
	live, err := e.read(ctx)
	if errors.Is(err, deploy.ErrNotRunning) {
		return Status{}, nil
	}
	if err != nil {
		return Status{}, err
	}
	p, err := e.processes(ctx)
	if err != nil {
		return Status{}, err
	}
	s := Status{Running: true, Version: live.version, Master: p.master, Worker: live.pid,
		MaxConnections: live.maxConnections, Asked: e.cfg.TotalConnections}
	s.OldWorkers = slices.DeleteFunc(p.workers, func(pid int) bool { return pid == live.pid })
	if live.stats != "" {
		if s.Stats, err = netip.ParseAddrPort(live.stats); err != nil {
			return Status{}, fmt.Errorf("address of the statistics page: %w", err)
		}
	}
	files, err := e.readFiles()
	if err != nil {
		return Status{}, err
	}
	s.Stale, err = e.stale(ctx, files, live)
	return s, err
}

// maxStatsClients is how many clients the statistics page has at once.
const maxStatsClients = 64

// statsClients are fewer of them where there may be few connections in total, of which they take some.
func statsClients(total int) int {
	if total == 0 {
		return maxStatsClients
	}
	return min(max(total/10, 1), maxStatsClients)
}

// Installed is the version of the program that the next start runs. It asks the program: "HAProxy version 2.6.12-1+deb12u4 2023/12/16 - ...".
func (e *Engine) Installed(ctx context.Context) (string, error) {
	text, err := exec.CommandContext(ctx, e.cfg.Binary, "-v").Output()
	if err != nil {
		return "", fmt.Errorf("the version of %s: %w", e.cfg.Binary, err)
	}
	fields := strings.Fields(string(text))
	i := slices.Index(fields, "version")
	if i < 0 || i+1 == len(fields) {
		return "", fmt.Errorf("%s -v does not tell its version: %.200s", e.cfg.Binary, text)
	}
	return fields[i+1], nil
}

// ShowConfig returns the configuration file, the password of the statistics page masked.
func (e *Engine) ShowConfig(context.Context) ([]byte, error) {
	text, err := os.ReadFile(e.cfg.ConfigFile)
	if err != nil {
		return nil, fmt.Errorf("HAProxy's configuration: %w", err)
	}
	return password.ReplaceAll(text, []byte("${1}********")), nil
}

var password = regexp.MustCompile(`(?m)(insecure-password ).*$`)

// stale says how what runs differs from the files.
func (e *Engine) stale(ctx context.Context, f files, live *snapshot) (string, error) {
	switch {
	case len(f.saved) == 0:
		return "somebody else has changed the file", nil
	case f.saved[0].Structure != live.structure:
		return "it was started with another configuration", nil
	}
	routes := f.saved[0].Routes
	for _, r := range routes {
		if !slices.EqualFunc(live.proxies[r.App], r.Servers, func(now slot, filed deploy.Server) bool {
			return now.ready == filed.Addr.IsValid() && (!now.ready || now.addr == filed.Addr)
		}) {
			app, listen, _ := parseName(r.App)
			return fmt.Sprintf("public port %s of %s has other servers", listen, app), nil
		}
	}
	networks, err := e.networks(ctx, numbered(routes))
	if err == nil && len(networkCommands(numbered(routes), networks)) > 0 {
		return "other clients may connect", nil
	}
	return "", err
}
