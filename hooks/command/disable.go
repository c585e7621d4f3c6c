package command

import (
	"context"
	"fmt"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

var disableCommand = command{
	args: "<app>",
	text: "Closes all public ports of an app and keeps them reserved for it",
	more: `
New connections are refused at once, established ones go on.

  dokku expose:disable mail`,
	run: func(ctx context.Context, h *host.Host, call call) error {
		return setDisabled(ctx, h, "disable", call.args, true)
	},
}

func setDisabled(ctx context.Context, h *host.Host, name string, args []string, disabled bool) error {
	app, rest, err := takeApp(h, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usageError(name, fmt.Sprintf("unexpected argument %q", rest[0]))
	}
	write := func() error { return h.Settings.SetDisabled(app, disabled) }
	if !disabled {
		return h.UnderLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
			return editSettings(ctx, h, lock, app, false, write)
		})
	}
	return h.Locked(ctx, func(ctx context.Context, lock *deploy.Lock) error {
		outcome, closed, err := h.GiveUp(ctx, lock, host.Give{App: app, Gone: host.All, Write: write, Again: "dokku expose:disable " + app})
		if err == nil && len(closed) == 0 {
			h.Out.Step("No public port of %s was open; none is opened until: dokku expose:enable %s", app, app)
		}
		tellGiven(h, outcome, app)
		return err
	})
}
