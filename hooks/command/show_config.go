package command

import (
	"context"
	"fmt"

	"dokku-expose/haproxy"
	"dokku-expose/hooks/host"
)

var showConfigCommand = command{
	text: "Prints the effective HAProxy configuration",
	more: `
  dokku expose:show-config`,
	run: func(ctx context.Context, h *host.Host, _ call) error {
		engine, err := h.Engine()
		if err != nil {
			return err
		}
		e, ok := engine.(*haproxy.Engine)
		if !ok {
			return fmt.Errorf("the engine %s has no configuration file; dokku expose:list says where each port leads", engine.Name())
		}
		text, err := e.ShowConfig(ctx)
		if err != nil {
			return err
		}
		_, err = h.Stdout.Write(text)
		return err
	},
}
