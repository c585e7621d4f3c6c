package command

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
)

// Help is what `dokku help` and `dokku expose:help` list.
func Help() dokku.Help {
	h := dokku.Help{Summary: "Public TCP and UDP ports for apps without downtime"}
	for _, name := range Names() {
		if c := subcommands[name]; name != byItself {
			h.Commands = append(h.Commands, dokku.Command{Usage: usage(name, c), Text: c.text})
		}
	}
	return h
}

var helpCommand = command{
	args: "[<command>]",
	text: "Lists these commands or explains one of them",
	more: `
What a command does, with an example, is also what it says with --help.

  dokku expose:help
  dokku expose:help list
  dokku expose:list --help`,
	run: func(_ context.Context, h *host.Host, call call) error {
		switch len(call.args) {
		case 0:
			_, err := io.WriteString(h.Stdout, Help().Page())
			return err
		case 1:
			return describe(h, strings.TrimPrefix(call.args[0], dokku.Plugin+":"))
		}
		return usageError("help", fmt.Sprintf("unexpected argument %q", call.args[1]))
	},
}

// describe prints how a subcommand is used.
func describe(h *host.Host, name string) error {
	c, err := findCommand(name)
	if err != nil {
		return err
	}
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	if c.flags != nil {
		c.flags(flags)
	}
	return printUsage(h, name, c, flags)
}
