package haproxy

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"dokku-expose/deploy"
)

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
