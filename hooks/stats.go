package hooks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/spf13/pflag"
)

// statsPage is how to reach the statistics page.
type statsPage struct {
	URL      string `json:"url"`
	User     string `json:"user"`
	Password string `json:"password"`
	// Tunnel is the command that makes the page's address work on another machine, "" when it needs none.
	Tunnel string `json:"tunnel"`
}

var statsCommand = command{
	args: "[--format stdout|json]",
	text: "Shows address and login of the statistics page",
	more: `
  dokku expose:stats`,
	flags: func(flags *pflag.FlagSet) { formatFlag(flags) },
	run: func(ctx context.Context, h *Host, call call) error {
		format, err := call.format()
		if err != nil {
			return err
		}
		if len(call.args) > 0 {
			return usageError("stats", fmt.Sprintf("unexpected argument %q", call.args[0]))
		}
		page, err := h.statsPage(ctx)
		if err != nil {
			return err
		}
		if format == "json" {
			return writeJSON(h.stdout, page)
		}
		lines := [][]string{{"Address:", page.URL}, {"User:", page.User}, {"Password:", page.Password}}
		if page.Tunnel != "" {
			lines = append(lines, []string{"From elsewhere:", page.Tunnel})
		}
		_, err = fmt.Fprint(h.stdout, columns(lines))
		return err
	},
}

func (h *Host) statsPage(ctx context.Context) (statsPage, error) {
	engine, err := h.engine()
	if err != nil {
		return statsPage{}, err
	}
	running, wrong, err := engine.Health(ctx)
	if err == nil && !running {
		err = errors.Join(wrong...)
	}
	if err != nil {
		return statsPage{}, err
	}
	listen, err := engine.Page(ctx)
	if err != nil {
		return statsPage{}, err
	}
	if !listen.IsValid() {
		return statsPage{}, fmt.Errorf("the engine %s runs without its statistics page: the address in stats-listen is taken; set another one: dokku expose:set --global stats-listen 127.0.0.1:8405", engine.Name())
	}
	password, err := h.statsPassword()
	page := statsPage{URL: fmt.Sprintf("http://%s/", listen), User: statsUser, Password: password}
	if listen.Addr().IsLoopback() {
		local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), listen.Port())
		page.Tunnel = fmt.Sprintf("ssh -L %s:%s root@THIS-HOST, then open http://%s/", local, listen, local)
	}
	return page, err
}
