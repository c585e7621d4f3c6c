package command

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/portsfile"
)

var listCommand = command{
	args: "[<app>] [--format stdout|json]",
	text: "Lists public ports and the containers that serve them",
	more: `
The state of a port is one of these:

  serving   new connections go to the containers that are named
  held      no container is up; new connections wait (setting hold)
  no local ports   this host has none left to connect to a container from: expose:check says more
  stopped, disabled   an operator wanted that: new connections are refused
  closed    nobody listens although somebody should: expose:check says why
  unknown   HAProxy or Docker could not be asked: expose:check says why

  dokku expose:list
  dokku expose:list mail --format json`,
	flags: formatFlag,
	run: func(ctx context.Context, h *host.Host, call call) error {
		format, err := call.format()
		if err != nil {
			return err
		}
		apps, err := takeApps(h, "list", call.args)
		if err != nil {
			return err
		}
		list := []exposed{}
		var (
			s    = h.Salvaged()
			v    = look(ctx, s)
			errs = []error{h.Broken(apps...)}
		)
		for _, app := range apps {
			if !h.Concerns(app) {
				continue
			}
			of, err := exposedOf(s, app, v)
			errs = append(errs, err)
			list = append(list, of...)
		}
		if format == "json" {
			errs = append(errs, writeJSON(h.Stdout, list))
		} else {
			_, err := io.WriteString(h.Stdout, listTable(list))
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	},
}

func listTable(list []exposed) string {
	rows := [][]string{{"APP", "PUBLIC", "PRIVATE", "PROCESS", "FROM", "STATE", "CONTAINERS"}}
	for _, e := range list {
		public := e.Public
		if len(e.Hosts) > 0 {
			public += portsfile.HostSeparator + strings.Join(e.Hosts, ",")
		}
		rows = append(rows, []string{
			e.App, public, e.Private, e.Process, dokku.Visible(e.From), e.State, strings.Join(e.Containers, " "),
		})
	}
	return columns(rows)
}

func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
