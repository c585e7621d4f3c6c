package trigger

import (
	"context"

	"dokku-expose/hooks/command"
	"dokku-expose/hooks/host"
)

// Report adds to `dokku report`.
//
//	report [APP]
func Report(ctx context.Context, h *host.Host, args []string) error {
	if len(args) == 0 || args[0] == "" {
		apps, err := h.Env.Apps()
		if err != nil {
			return err
		}
		return command.Report(ctx, h, apps, "", "")
	}
	return command.Report(ctx, h, args[:1], "", "")
}
