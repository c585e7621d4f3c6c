package command

import (
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
)

// command is one subcommand of `dokku expose`.
type command struct {
	// args is how it is called, after its name: "<app> <public>...".
	args string
	// text says in a few words what it does. Dokku's help allows no comma in it.
	text string
	// more is what --help adds to that: what to expect, and an example.
	more string
	// flags adds the command's own flags, nil for none.
	flags func(*pflag.FlagSet)
	// rest tells that flags are none of ours to judge: the command reads them itself.
	rest bool
	run  func(ctx context.Context, h *host.Host, call call) error
}

// call is what a subcommand was called with.
type call struct {
	args  []string
	flags *pflag.FlagSet
}

// byItself is the file of the subcommand that Dokku runs for `dokku expose` alone.
const byItself = "default"

// subcommands of `dokku expose`, each as a link with that name to the program, in the plugin's folder "subcommands".
// The variable is set in init: the help command refers to it.
var subcommands map[string]command

func init() {
	subcommands = map[string]command{
		byItself:  helpCommand,
		"help":    helpCommand,
		"list":    listCommand,
		"report":  reportCommand,
		"add":     addCommand,
		"remove":  removeCommand,
		"set":     setCommand,
		"enable":  enableCommand,
		"disable": disableCommand,
		"sync":    syncCommand,
		"check":   checkCommand,
		"stats":   statsCommand,
		"logs":    logsCommand,

		"show-config":   showConfigCommand,
		"k3s-install":   k3sInstallCommand,
		"k3s-uninstall": k3sUninstallCommand,
	}
}

// Names names the subcommands of `dokku expose`.
func Names() []string { return slices.Sorted(maps.Keys(subcommands)) }

func usage(name string, c command) string {
	if name == byItself {
		return dokku.Plugin
	}
	return strings.TrimSpace(dokku.Plugin + ":" + name + " " + c.args)
}

func findCommand(name string) (command, error) {
	c, known := subcommands[name]
	if !known {
		return command{}, fmt.Errorf("there is no command %s:%s; `dokku %s:help` lists them", dokku.Plugin, name, dokku.Plugin)
	}
	return c, nil
}

// echoUsage is the beginning of echo's own help. Over ssh Dokku takes the command line apart with xargs, which calls echo for each
// word: a command that was given --help gets the lines of that help instead.
var echoUsage = regexp.MustCompile(`^\S+ (\S*/)?echo \[`)

// asksForHelp tells whether a command's arguments ask what it does.
func asksForHelp(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool { return arg == "--help" || arg == "-h" || echoUsage.MatchString(arg) })
}

// Subcommand runs one of them.
func Subcommand(ctx context.Context, h *host.Host, name string, args []string) error {
	c, err := findCommand(name)
	if err != nil {
		return err
	}
	if asksForHelp(args) {
		return describe(h, name)
	}
	if c.rest {
		return c.run(ctx, h, call{args: args})
	}
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	if c.flags != nil {
		c.flags(flags)
	}
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("%w; usage: dokku %s", err, usage(name, c))
	}
	return c.run(ctx, h, call{args: flags.Args(), flags: flags})
}

func printUsage(h *host.Host, name string, c command, flags *pflag.FlagSet) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: dokku %s\n\n%s.\n", usage(name, c), c.text)
	if c.more != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.Trim(c.more, "\n"))
	}
	if flags.HasFlags() {
		fmt.Fprintf(&b, "\nFlags:\n%s", flags.FlagUsages())
	}
	_, err := io.WriteString(h.Stdout, b.String())
	return err
}

// usageError is the error of a call that does not fit, with how it is meant.
func usageError(name, message string) error {
	return fmt.Errorf("%s; usage: dokku %s", message, usage(name, subcommands[name]))
}

// takeApp returns the app that a command is about, named as its first argument or by `dokku --app`, and the other
// arguments.
func takeApp(h *host.Host, args []string) (string, []string, error) {
	app := h.Env.App
	if app == "" && len(args) > 0 {
		app, args = args[0], args[1:]
	}
	return app, args, h.Env.Verify(app)
}

// takeApps is takeApp for commands that are about all apps when none is named.
func takeApps(h *host.Host, name string, args []string) ([]string, error) {
	if h.Env.App == "" && len(args) == 0 {
		return h.Env.Apps()
	}
	app, rest, err := takeApp(h, args)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, usageError(name, fmt.Sprintf("unexpected argument %q", rest[0]))
	}
	return []string{app}, nil
}

// formatFlag adds --format.
func formatFlag(flags *pflag.FlagSet) {
	flags.String("format", "stdout", "stdout or json")
}

// format reads --format.
func (c call) format() (string, error) {
	format, err := c.flags.GetString("format")
	if err == nil && format != "stdout" && format != "json" {
		err = fmt.Errorf("--format is %q: it must be stdout or json", format)
	}
	return format, err
}
