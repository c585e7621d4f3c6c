package command

import (
	"context"

	"dokku-expose/hooks/host"
)

var enableCommand = command{
	args: "<app>",
	text: "Opens the public ports of an app again",
	more: `
  dokku expose:enable mail`,
	run: func(ctx context.Context, h *host.Host, call call) error {
		return setDisabled(ctx, h, "enable", call.args, false)
	},
}
