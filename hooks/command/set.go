package command

import (
	"context"
	"fmt"
	"io"
	"os"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
)

var setCommand = command{
	args: "<app>|--global <key> [<value>]",
	text: "Sets a setting of an app or of the host; without a value it restores the default",
	more: `
It takes effect at once. expose:report shows the settings in force. The keys:

` + settings.Reference() + `

  dokku expose:set mail hold 30s
  dokku expose:set --global reserved-ports 22,80,443,3306
  dokku expose:set --global engine builtin
  dokku expose:set mail hold`,
	rest: true,
	run: func(ctx context.Context, h *host.Host, call call) error {
		args := call.args
		app := h.Env.App
		if app == "" && len(args) > 0 {
			app, args = args[0], args[1:]
		}
		if app != settings.Global {
			if err := h.Env.Verify(app); err != nil {
				return err
			}
		}
		if len(args) < 1 || len(args) > 2 {
			return usageError("set", "expected a key and at the most one value")
		}
		var value string
		if len(args) == 2 {
			value = args[1]
		}
		if settings.OfFile(args[0]) && value != "" && value != settings.NoFile {
			text, err := readValue(h, value)
			if err != nil {
				return err
			}
			value = text
		}
		set := func() error { return h.Settings.Set(app, args[0], value) }
		if settings.Admits(args[0]) {
			// Neither Docker nor an engine is asked: they may be why an operator sets it.
			return h.Locked(ctx, func(context.Context, *deploy.Lock) error {
				if err := set(); err != nil {
					return err
				}
				h.Out.Step("%s is set for what is asked for from now on; public ports that are open stay open", args[0])
				return nil
			})
		}
		return h.UnderLock(ctx, func(ctx context.Context, lock *deploy.Lock) error {
			if app == settings.Global && args[0] == "engine" {
				return move(ctx, h, lock, set)
			}
			if app == settings.Global && args[0] == "stats-listen" {
				if err := h.AdmitPage(ctx, value); err != nil {
					return err
				}
			}
			if err := editSettings(ctx, h, lock, app, settings.OfRoutes(args[0]), set); err != nil || app == settings.Global {
				return err
			}
			values, err := h.Settings.Effective(app)
			if err == nil && args[0] == "drain-wait" {
				if vain := h.DrainsInVain(app, values); vain != nil {
					h.Out.Warn("%v", vain)
				}
			}
			return err
		})
	},
}

// maxValue is how long a file may be that a setting is set to.
const maxValue = 64 << 10

// readValue reads the file that a setting is set to, "-" for stdin.
func readValue(h *host.Host, path string) (string, error) {
	file := h.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("%w; the user dokku has to be able to read it, or give it on stdin: dokku expose:set ... - < %s", err, path)
		}
		defer f.Close()
		file = f
	}
	text, err := io.ReadAll(io.LimitReader(file, maxValue+1))
	if err == nil && len(text) > maxValue {
		err = fmt.Errorf("%s is longer than %d KiB", path, maxValue>>10)
	}
	return string(text), err
}
