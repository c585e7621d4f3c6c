package command

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"dokku-expose/hooks/host"
)

var logsCommand = command{
	args: "[<app>] [--num <lines>] [--tail]",
	text: "Shows what has happened to public ports",
	more: `
A line an event, of all apps or of one:

  switch   a deploy or a command has changed where a port leads
  heal     the daemon has, since a container was gone, was back, or had another address
  hold     a port has no container; new connections wait (setting hold)
  drain    a former container has connections still
  cut      so many of them were closed since their time is over (setting old-connections)
  ended    a former container has ended, and at most so many connections with it
  down     the engine has ended, and with it the connections that it had
  lost     how many of them an app had, a moment before
  up       the engine is back, so long after it was last seen to work
  close    public ports were closed by a command
  unserved so many connections were closed in a deploy without checks, since no container was up
  reload   HAProxy was reloaded, and why
  refuse   what was asked for and not granted
  engine   the ports were moved to another engine
  problem, solved   what is wrong, and when it is no more

What HAProxy and the daemon say besides is in their services' logs: journalctl -u dokku-expose -u dokku-expose-haproxy.

Over ssh write --num: Dokku loses the word -n there.

  dokku expose:logs mail
  dokku expose:logs --tail`,
	flags: func(flags *pflag.FlagSet) {
		flags.IntP("num", "n", 100, "how many of the last lines to show")
		flags.BoolP("tail", "t", false, "go on with what comes until interrupted")
	},
	run: func(ctx context.Context, h *host.Host, call call) error {
		num, err := call.flags.GetInt("num")
		if err != nil {
			return err
		}
		tail, err := call.flags.GetBool("tail")
		if err != nil {
			return err
		}
		if num < 0 {
			return usageError("logs", fmt.Sprintf("--num is %d: it must be 0 or more", num))
		}
		wanted := func(string) bool { return true }
		if h.Env.App != "" || len(call.args) > 0 {
			app, rest, err := takeApp(h, call.args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return usageError("logs", fmt.Sprintf("unexpected argument %q", rest[0]))
			}
			wanted = func(line string) bool { return host.Field(line, "app") == app }
		}
		return h.EventLog().Show(ctx, h.Stdout, num, tail, wanted)
	},
}
