package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"dokku-expose/hooks/command"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/trigger"
)

// Triggers names the triggers that the plugin listens to.
func Triggers() []string { return slices.Sorted(maps.Keys(triggers)) }

// hook is one of Dokku's triggers.
type hook struct {
	// args is how many arguments Dokku passes at least.
	args int
	// app is which of them is the app.
	app int
	run func(ctx context.Context, h *host.Host, args []string) error
	// told has its error told and not returned: Dokku would do only half of what it calls the trigger for.
	told bool
}

// triggers are the ones that the plugin listens to, each as a link with that name to the program.
var triggers = map[string]hook{
	"core-post-extract":             {2, 0, trigger.CorePostExtract, true},
	"pre-build":                     {3, 1, trigger.PreBuild, false},
	"post-release-builder":          {3, 1, trigger.PostReleaseBuilder, false},
	"docker-args-process-deploy":    {4, 0, trigger.DockerArgsProcessDeploy, false},
	"check-deploy":                  {3, 0, trigger.CheckDeploy, false},
	"scheduler-register-retired":    {2, 0, trigger.SchedulerRegisterRetired, false},
	"scheduler-post-deploy-process": {2, 0, trigger.SchedulerPostDeployProcess, false},
	"scheduler-deploy":              {3, 1, trigger.SchedulerDeploy, false},
	"post-deploy":                   {1, 0, trigger.PostDeploy, false},
	"scheduler-stop":                {2, 1, trigger.SchedulerStop, true},
	"post-stop":                     {1, 0, trigger.PostStop, true},
	"post-create":                   {1, 0, trigger.PostCreate, true},
	"post-delete":                   {1, 0, trigger.PostDelete, true},
	"post-app-rename-setup":         {2, 0, trigger.PostAppRenameSetup, true},
	"post-app-clone-setup":          {2, 0, trigger.PostAppCloneSetup, true},
	"post-certs-update":             {1, 0, trigger.PostCerts, true},
	"post-certs-remove":             {1, 0, trigger.PostCerts, true},
	"report":                        {0, 0, trigger.Report, true},
}

// Subcommands returns the names of the subcommands, sorted; each is a link to the program in the plugin's subcommands folder.
func Subcommands() []string { return command.Names() }

// Main runs the program: a trigger or a subcommand of the plugin, by the name that it was called as, or one of the
// program's own commands. It returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// Whoever interrupts a deploy wants it to end. That nobody reads the output any more must not end it.
	signal.Ignore(syscall.SIGPIPE)
	ends := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if isService(args) {
		// There it means to look at everything again, which a service does anyway that does not know of it yet.
		signal.Ignore(syscall.SIGHUP)
	} else {
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()

	err := run(ctx, args, stdin, stdout, stderr)
	printer := dokku.Printer{Out: stdout, Err: stderr}
	printer.Fail(err)
	return dokku.ExitCode(err)
}

// isService tells whether the program is called as the daemon, or as its worker.
func isService(args []string) bool {
	name := filepath.Base(args[0])
	if _, isTrigger := triggers[name]; isTrigger || name == "commands" || filepath.Base(filepath.Dir(args[0])) == "subcommands" {
		return false
	}
	return len(args) > 1 && slices.Contains([]string{"daemon", "serve", "entry"}, args[1])
}

// hookGC is how much a trigger may allocate between two collections, in percent of what is in use.
const hookGC = 400

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (err error) {
	name, args := args[0], args[1:]
	h, err := host.New(os.Getenv, stdin, stdout, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()

	base := filepath.Base(name)
	h.Log = h.Log.With("by", base)
	switch t, isTrigger := triggers[base]; {
	case filepath.Base(filepath.Dir(name)) == "subcommands":
		// Dokku passes the command as the first argument: "expose:list".
		args = args[min(1, len(args)):]
		err := command.Subcommand(ctx, h, base, args)
		if slices.Contains([]string{"add", "remove", "set", "enable", "disable"}, base) {
			app := h.Env.App
			if app == "" && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
				app = args[0]
			}
			refuse(h, app, err)
		}
		return err
	case base == "commands":
		return commands(ctx, h, args)
	case isTrigger:
		if len(args) < t.args {
			return fmt.Errorf("trigger %s: %d arguments, expected at least %d", base, len(args), t.args)
		}
		// A trigger lives for a moment, and on a host with many apps has little time for garbage: with 1,000 of them a fifth of a
		// post-deploy's went there.
		debug.SetGCPercent(hookGC)
		err := t.run(ctx, h, args)
		app := ""
		if len(args) > t.app {
			app = args[t.app]
		}
		refuse(h, app, err)
		if t.told {
			h.Out.Fail(err)
			return nil
		}
		return err
	}
	return program(ctx, h, args)
}

// refuse logs what an app was refused.
func refuse(h *host.Host, app string, err error) {
	if err != nil {
		h.Log.Warn("refuse", "app", app, "error", err)
	}
}

// commands answers `dokku help` and `dokku expose:help`.
func commands(ctx context.Context, h *host.Host, args []string) error {
	name := strings.Join(args[:min(1, len(args))], "")
	switch name {
	case "help":
		all, err := dokku.HelpAll()
		if err != nil {
			return err
		}
		_, err = io.WriteString(h.Stdout, command.Help().Lines(all))
		return err
	case dokku.Plugin, dokku.Plugin + ":help":
		return command.Subcommand(ctx, h, "help", args[1:])
	}
	return h.Env.NotImplemented()
}
