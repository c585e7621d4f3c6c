package trigger

import (
	"context"

	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
)

// PostCreate clears away what an app of the same name left behind while the plugin was disabled: a new app must not
// begin with somebody else's ports.
//
//	post-create APP
func PostCreate(ctx context.Context, h *host.Host, args []string) error {
	if app := args[0]; app == dokku.Plugin {
		h.Out.Warn("%s is the name of this plugin too: Dokku keeps the app's variables where the plugin's settings are (%s), and apps:destroy %s will delete both. Better give the app another name.",
			app, h.Settings.Dir, app)
	}
	return forget(ctx, h, args[0])
}
