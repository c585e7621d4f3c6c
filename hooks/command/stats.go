package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/stats"
)

// statsPage is how to reach the statistics page.
type statsPage struct {
	URL      string `json:"url"`
	User     string `json:"user"`
	Password string `json:"password"`
	// Containers is the page that names the containers, where that is another one.
	Containers string `json:"containers"`
	// Tunnel is the command that makes the page's address work on another machine, "" when it needs none.
	Tunnel string `json:"tunnel"`
}

// watchInterval is the pause between two looks of --watch.
const watchInterval = 2 * time.Second

var statsCommand = command{
	args: "[<app>] [--watch] [--format stdout|json]",
	text: "Shows connections and bytes of public ports and how to open the statistics page",
	more: `
For each public port there is a row with all its connections, and beneath it one for each container:

  ready, down   a current container that accepts connections, or does not at the moment
  draining      a former container, which gets no new connections and has some still
  serving, held, closed   what becomes of new connections to the port

Of UDP a connection is a session: the datagrams of one client. A total that an engine does not count is shown as "-": HAProxy
counts by port only. With --watch the table is shown again
every two seconds until it is interrupted.

  dokku expose:stats
  dokku expose:stats mail --watch
  dokku expose:stats mail --format json`,
	flags: func(flags *pflag.FlagSet) {
		formatFlag(flags)
		flags.Bool("watch", false, "show it again every two seconds")
	},
	run: func(ctx context.Context, h *host.Host, call call) error {
		format, err := call.format()
		if err != nil {
			return err
		}
		watch, err := call.flags.GetBool("watch")
		if err != nil {
			return err
		}
		app := ""
		if h.Env.App != "" || len(call.args) > 0 {
			apps, err := takeApps(h, "stats", call.args)
			if err != nil {
				return err
			}
			app = apps[0]
		}
		broken := h.Broken()
		h = h.Salvaged()
		if watch {
			h.Out.Fail(broken)
			return watchStats(ctx, h, app, format)
		}
		return errors.Join(showStats(ctx, h, app, format), broken)
	},
}

// showStats shows how to open the page and, of one app or of all, what the engine counts.
func showStats(ctx context.Context, h *host.Host, app, format string) error {
	page, pageErr := findPage(ctx, h)
	facts, err := factsOf(ctx, h, app)
	if err != nil {
		return cmp.Or(pageErr, err)
	}
	defer warn(h, facts)
	if format == "json" {
		return errors.Join(writeJSON(h.Stdout, struct {
			statsPage
			deploy.Observation
		}{page, facts}), pageErr)
	}
	var lines [][]string
	if pageErr == nil {
		lines = [][]string{{"Address:", page.URL}, {"User:", page.User}, {"Password:", page.Password}}
		if page.Containers != "" {
			lines = slices.Insert(lines, 1, []string{"Containers:", page.Containers})
		}
		if page.Tunnel != "" {
			lines = append(lines, []string{"From elsewhere:", page.Tunnel})
		}
		lines = append(lines, nil)
	}
	_, err = io.WriteString(h.Stdout, columns(lines)+statsTable(facts))
	return errors.Join(err, pageErr)
}

// watchStats shows what the engine counts until ctx ends. That the engine can't be asked for a while does not end it.
func watchStats(ctx context.Context, h *host.Host, app, format string) error {
	clear := ""
	if isTerminal(h.Stdout) {
		clear = "\x1b[H\x1b[2J"
	}
	for {
		facts, err := factsOf(ctx, h, app)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			h.Out.Fail(err)
		case format == "json":
			err = writeJSON(h.Stdout, facts)
		default:
			_, err = fmt.Fprintf(h.Stdout, "%s%s\n%s\n", clear, time.Now().Format(time.TimeOnly), statsTable(facts))
		}
		warn(h, facts)
		// Nobody reads it any more.
		if errors.Is(err, unix.EPIPE) || !host.Sleep(ctx, watchInterval) {
			return nil
		}
	}
}

// warn says, beside what is shown, what is missing in it.
func warn(h *host.Host, facts deploy.Observation) {
	if facts.Warning != "" {
		h.Out.Warn("%s", facts.Warning)
	}
}

func factsOf(ctx context.Context, h *host.Host, app string) (deploy.Observation, error) {
	facts, err := h.NamedCounters(ctx)
	for i := range facts.Routes {
		facts.Routes[i].Options, facts.Routes[i].ClientCA = deploy.Options{}, "" // expose:list and expose:report show what was asked for
	}
	if app != "" {
		facts = facts.Of(app)
	}
	return facts, err
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// statsTable has a row for each public port, and beneath it one for each container.
func statsTable(facts deploy.Observation) string {
	rows := [][]string{{"APP", "PUBLIC", "PROCESS", "DYNO", "CONTAINER", "STATE", "OPEN", "TOTAL", "IN", "OUT", "ERRORS"}}
	add := func(cells ...string) {
		for i := range cells {
			if cells[i] == "" {
				cells[i] = "-"
			}
			cells[i] = dokku.Visible(cells[i])
		}
		rows = append(rows, cells)
	}
	bytes := func(n uint64) string { return strings.ReplaceAll(stats.Size(n), " ", "") }
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	for _, r := range facts.Routes {
		state := r.State()
		if r.Held > 0 {
			state += fmt.Sprintf(" (%d wait)", r.Held)
		}
		add(r.App, r.Key.String(), r.Process, "", "", state, strconv.Itoa(r.Connections()), number(r.Total),
			bytes(r.In), bytes(r.Out), number(r.Failed+r.Lost()))
		for _, s := range r.Servers {
			cells := []string{r.App, r.Key.String(), r.Process, s.Dyno, s.ShortID(), s.State(), strconv.Itoa(s.Connections), "", "", "", ""}
			if s.Container == "" {
				cells[4] = s.Addr.String()
			}
			if s.Counts != nil {
				copy(cells[7:], []string{number(s.Total), bytes(s.In), bytes(s.Out), number(s.Failed)})
			}
			add(cells...)
		}
	}
	table := columns(rows)
	for _, r := range facts.Routes {
		table += aboutTLS(r.App, r.Key.String(), r)
		if text := r.AboutUDP(); text != "" {
			table += dokku.Visible(fmt.Sprintf("UDP of public port %s of %s: %s.", r.Key, r.App, text)) + "\n"
		}
	}
	for _, p := range facts.Old {
		table += fmt.Sprintf("A former process of the engine (pid %d) still has %d connections.\n", p.PID, p.Connections)
	}
	return table
}

func findPage(ctx context.Context, h *host.Host) (statsPage, error) {
	engine, err := h.Engine()
	if err != nil {
		return statsPage{}, err
	}
	o, err := engine.Observe(ctx)
	if err := cmp.Or(err, host.NotRunning(o)); err != nil {
		return statsPage{}, err
	}
	listen := o.Page
	if !listen.IsValid() {
		return statsPage{}, fmt.Errorf("the engine %s runs without its statistics page: the address in stats-listen is taken; set another one: dokku expose:set --global stats-listen 127.0.0.1:8405", engine.Name())
	}
	password, err := h.StatsPassword()
	if ip := listen.Addr(); ip.IsUnspecified() {
		// It is there on this host's own address, too.
		loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if ip.Is6() {
			loopback = netip.IPv6Loopback()
		}
		listen = netip.AddrPortFrom(loopback, listen.Port())
	}
	page := statsPage{URL: fmt.Sprintf("http://%s/", listen), User: host.StatsUser, Password: password}
	if o.Containers != "" {
		page.Containers = page.URL + o.Containers
	}
	if listen.Addr().IsLoopback() {
		local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), listen.Port())
		page.Tunnel = fmt.Sprintf("ssh -L %s:%s root@THIS-HOST, then open http://%s/", local, listen, local)
	}
	return page, err
}
