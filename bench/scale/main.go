// Command scale measures how the cost of a deploy, of a start and of memory grows with the number of apps.
//
// The plugin's program, its hooks and its services are real. Dokku's part is package internal/rig's, as in the tests. Docker is a
// stand-in, for a thousand real containers are too many for most machines: it answers from memory, and this program answers at
// the addresses of all containers. All of it is in a network namespace of its own: neither root's rights nor this machine's
// addresses are used outside.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"dokku-expose/bench/measure"
	"dokku-expose/internal/rig"
)

func main() { os.Exit(measure.Main(run, nil)) }

// options say what is to be measured.
type options struct {
	// binary is the plugin's program.
	binary string
	// sizes are numbers of apps in ascending order, deploys how many deploys there are with each of them.
	sizes    []int
	deploys  int
	engines  []engine
	progress io.Writer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o := options{progress: stderr}
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.SetOutput(stderr)
	sizes := flags.String("apps", "10,100,1000", "numbers of apps")
	which := flags.String("engines", engineNames(), "engines to measure")
	flags.IntVar(&o.deploys, "deploys", 100, "how many deploys are made with each number of apps")
	flags.StringVar(&o.binary, "binary", "", "the plugin's program; built when none is named")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	err := o.parse(*sizes, *which)
	if err == nil && (o.deploys < 1 || flags.NArg() > 0) {
		err = fmt.Errorf("expected a positive number of deploys and nothing else, got %s", strings.Join(args, " "))
	}
	if err != nil {
		fmt.Fprintln(stderr, "scale:", err)
		return 2
	}
	if os.Getenv(insideVariable) == "" {
		return enter(ctx, o.binary, args, stdout, stderr)
	}
	report, err := grow(ctx, o)
	if err == nil {
		_, err = io.WriteString(stdout, report)
	}
	if err != nil {
		fmt.Fprintln(stderr, "scale:", err)
		return 1
	}
	return 0
}

func (o *options) parse(sizes, which string) error {
	for _, text := range strings.Split(sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxApps {
			return fmt.Errorf("%q is no number of apps from 1 to %d", text, maxApps)
		}
		o.sizes = append(o.sizes, n)
	}
	slices.Sort(o.sizes)
	for _, name := range strings.Split(which, ",") {
		i := slices.IndexFunc(engines, func(e engine) bool { return e.name == name })
		if i < 0 {
			return fmt.Errorf("there is no engine %q, only %s", name, engineNames())
		}
		o.engines = append(o.engines, engines[i])
	}
	return nil
}

// insideVariable is set in the environment of the process that measures.
const insideVariable = "DOKKU_EXPOSE_SCALE_INSIDE"

// enter runs this program again in a network namespace of its own, and folders of its own, which are removed afterwards.
func enter(ctx context.Context, binary string, args []string, stdout, stderr io.Writer) (code int) {
	dir, err := os.MkdirTemp("", "scale-")
	if err != nil {
		fmt.Fprintln(stderr, "scale:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary == "" {
		if binary, err = rig.BuildPlugin(ctx, dir); err != nil {
			fmt.Fprintln(stderr, "scale:", err)
			return 1
		}
	}
	command := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"-binary", binary}, args...)...)
	command.Env = append(os.Environ(), insideVariable+"=yes", "TMPDIR="+dir)
	command.Stdout, command.Stderr = stdout, stderr
	// It cleans up when it is told to end.
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		command.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err = command.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1)
	}
	if err != nil {
		fmt.Fprintln(stderr, "scale: a network namespace of its own needs root, or a kernel that gives users theirs:", err)
		return 1
	}
	return 0
}
