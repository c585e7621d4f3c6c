package command

import (
	"context"
	"fmt"

	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
)

var showConfigCommand = command{
	text: "Prints the effective HAProxy configuration",
	more: `
  dokku expose:show-config`,
	run: func(ctx context.Context, h *host.Host, _ call) error {
		w, err := h.Wire()
		if err != nil {
			return err
		}
		name, err := w.EngineName()
		if err != nil {
			return err
		}
		if name != settings.HAProxy {
			return fmt.Errorf("the engine %s has no configuration file; dokku expose:list says where each port leads", name)
		}
		e, err := w.HAProxy(true)
		if err != nil {
			return err
		}
		text, err := e.ShowConfig(ctx)
		if err != nil {
			return err
		}
		_, err = h.Stdout.Write(text)
		return err
	},
}
