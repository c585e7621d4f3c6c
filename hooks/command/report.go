package command

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
)

var reportCommand = command{
	args: "[<app>|--global] [--format stdout|json] [<flag>]",
	text: "Displays a report about public ports and settings",
	more: `
A flag such as --expose-public-ports prints just that value. For each setting there are three: the app's own, the host's, and
the one that is in force. With --global it reports the host's settings.

  dokku expose:report mail
  dokku expose:report --global
  dokku expose:report mail --expose-computed-hold
  dokku expose:report mail --format json`,
	rest: true,
	run: func(ctx context.Context, h *host.Host, call call) error {
		var (
			rest         []string
			format, flag string
			global       bool
		)
		for args := call.args; len(args) > 0; args = args[1:] {
			arg := args[0]
			switch value, isFormat := strings.CutPrefix(arg, "--format="); {
			case isFormat:
				format = value
			case arg == "--format" && len(args) > 1:
				format, args = args[1], args[1:]
			case arg == "--format":
				return usageError("report", "--format needs a value")
			case arg == settings.Global:
				global = true
			case strings.HasPrefix(arg, "--") && flag != "":
				return usageError("report", "only one flag can be given")
			case strings.HasPrefix(arg, "--"):
				flag = arg
			default:
				rest = append(rest, arg)
			}
		}
		if global {
			// Dokku's core does not look at an app beside it either.
			return reportGlobal(h, format, flag)
		}
		apps, err := takeApps(h, "report", rest)
		if err != nil {
			return err
		}
		return Report(ctx, h, apps, format, flag)
	},
}

func Report(ctx context.Context, h *host.Host, apps []string, format, flag string) error {
	errs := []error{h.Broken(apps...)}
	h = h.Salvaged()
	// Of apps without ports nothing is asked of Docker or the engine.
	var v view
	var counted traffic
	if slices.ContainsFunc(apps, h.Concerns) {
		v = look(ctx, h)
		counted.seen, counted.err = h.Counters(ctx)
	}
	name, err := h.EngineName()
	errs = append(errs, err)
	for _, app := range apps {
		rows, err := reportRows(h, app, v)
		rows = append(rows, dokku.Row{Flag: "--expose-engine", Value: name})
		rows = append(rows, counted.rows(app)...)
		errs = append(errs, err, h.Out.Report(app, rows, format, flag))
	}
	return errors.Join(errs...)
}

// reportGlobal reports the settings of the host: what is set, and what goes for an app that sets nothing.
func reportGlobal(h *host.Host, format, flag string) error {
	broken := h.Broken()
	h = h.Salvaged()
	explained, err := h.Settings.Explain(settings.Global)
	name, nameErr := h.EngineName()
	rows := append(settingRows(settings.Global, explained), dokku.Row{Flag: "--expose-engine", Value: name})
	return errors.Join(broken, err, nameErr, h.Out.Report(settings.Global, rows, format, flag))
}

// reportRows is the report of one app, a table from flag to value, as far as it can be read.
func reportRows(h *host.Host, app string, v view) ([]dokku.Row, error) {
	mappings, unread := exposedOf(h, app, v)
	set, setErr := h.Settings.Load(app)
	explained, err := h.Settings.Explain(app)
	// The list says what is wrong with it.
	remembered, _ := h.State.Load(app)
	var public, containers, operator []string
	states := make(map[string]bool)
	for _, m := range mappings {
		public = append(public, m.Public)
		states[m.State] = true
		for _, c := range m.Containers {
			if !slices.Contains(containers, c) {
				containers = append(containers, c)
			}
		}
	}
	for _, m := range set.Mappings {
		operator = append(operator, m.String())
	}
	rows := []dokku.Row{
		{Flag: "--expose-public-ports", Value: strings.Join(public, " ")},
		{Flag: "--expose-operator-mappings", Value: strings.Join(operator, ", ")},
		{Flag: "--expose-containers", Value: strings.Join(containers, " ")},
		{Flag: "--expose-state", Value: strings.Join(sortedKeys(states), " ")},
		{Flag: "--expose-disabled", Value: strconv.FormatBool(set.Disabled)},
		{Flag: "--expose-stopped", Value: strconv.FormatBool(remembered.Stopped)},
		{Flag: "--expose-image", Value: remembered.Current},
	}
	return append(rows, settingRows(app, explained)...), errors.Join(unread, setErr, err)
}

// traffic is what the engine counts, or why it can't be asked.
type traffic struct {
	seen deploy.Observation
	err  error
}

// rows report the connections of an app: all that are open, those of them on containers that get no new ones any more, and how
// many former processes of the engine there are, with connections of whatever app.
func (t traffic) rows(app string) []dokku.Row {
	number := func(n int) string {
		if t.err != nil {
			return "unknown"
		}
		return strconv.Itoa(n)
	}
	of := t.seen.Of(app)
	return []dokku.Row{
		{Flag: "--expose-connections", Value: number(of.Connections())},
		{Flag: "--expose-draining-connections", Value: number(of.Draining())},
		{Flag: "--expose-old-processes", Value: number(len(of.Old))},
	}
}

// settingRows reports each setting as Dokku's core does: the app's own value, the host's, and the one in force. In the report of the
// host ([settings.Global]) there is no app's.
func settingRows(scope string, explained []settings.Explained) []dokku.Row {
	var rows []dokku.Row
	for _, e := range explained {
		row := func(kind, value string) {
			rows = append(rows, dokku.Row{Flag: "--expose-" + kind + e.Key.Name, Value: e.Key.Show(value)})
		}
		if e.Key.Scope != settings.GlobalOnly && scope != settings.Global {
			row("", e.App)
		}
		if e.Key.Scope != settings.AppOnly {
			row("global-", e.Global)
		}
		row("computed-", e.Value)
	}
	return rows
}

func sortedKeys(set map[string]bool) []string {
	var keys []string
	for key := range set {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
