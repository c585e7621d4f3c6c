package command

import (
	"context"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

var addCommand = command{
	args: "<app> <mapping>... [<key>=<value>...]",
	text: "Adds public ports to an app beside those of its PORTS file",
	more: `
A mapping is written as in a PORTS file: 25:5025, 53:5353/udp, 127.0.0.1:5432:5432, 6000-6010:7000-7010. Options go for all
of the mappings. They take effect at once, without a deploy, and stay until expose:remove. Options but for process and host
are settings, too (expose:set), for all mappings that don't say otherwise:

` + deploy.OptionsReference() + `

  dokku expose:add mail 25:5025 587:5587
  dokku expose:add mail 993:5993 process=imap rate=20/10s
  dokku expose:add mail 8883:1883 tls=terminate host=mqtt.example.com`,
	run: func(ctx context.Context, h *host.Host, call call) error {
		app, args, err := takeApp(h, call.args)
		if err != nil {
			return err
		}
		added, err := parseMappings(args)
		if err != nil {
			return err
		}
		return editMappings(ctx, h, app, func(ctx context.Context, have []deploy.Mapping) ([]deploy.Mapping, error) {
			wanted := append(have, added...)
			if err := admitMappings(ctx, h, app, wanted); err != nil {
				return nil, err
			}
			var claims []deploy.Claim
			for _, m := range added {
				claims = append(claims, deploy.OperatorClaims(app, m)...)
			}
			h.WarnUnreserved(claims)
			return wanted, noteStopped(ctx, h, app)
		})
	},
}
