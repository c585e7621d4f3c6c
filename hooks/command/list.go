package command

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"dokku-expose/deploy"
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

Beneath the table there is a line for each mapping that ends TLS: clients by version, failed handshakes, the certificate's end.

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
		if err := v.countTLS(ctx, s, apps); err != nil {
			h.Out.Warn("%v", err)
		}
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
		rows = append(rows, []string{
			e.App, e.publicName(), e.Private, e.Process, dokku.Visible(e.From), e.State, strings.Join(e.Containers, " "),
		})
	}
	table := columns(rows)
	for _, e := range list {
		if e.TLS != nil {
			table += aboutTLS(e.App, e.publicName(), deploy.RouteState{
				TLSVersions: e.TLS.Versions, HandshakesFailed: e.TLS.HandshakesFailed, CertificateEnds: e.TLS.CertificateEnds,
			})
		}
	}
	return table
}

// publicName is the public port with its server names: "443@mail.example.com".
func (e exposed) publicName() string {
	if len(e.Hosts) == 0 {
		return e.Public
	}
	return e.Public + portsfile.HostSeparator + strings.Join(e.Hosts, ",")
}

func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
