// Command demo shows what dokku-expose is for: an app with a public TCP port is deployed again and again while clients use
// that port, and a table tells what they saw.
//
// What it shows is real. Where Docker answers these are the plugin's program and services, and containers; only Dokku is not
// there, whose part package internal/rig plays in a temporary folder. Without Docker the two versions of the app are processes,
// and the plugin's model and its built-in engine serve them. Nothing of it is left when the demo ends. The exit status is 0 when
// no connection failed and none was broken.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"dokku-expose/internal/load"
)

const (
	app     = "mail"
	private = 5025
	// openers and holders are the clients: the former connect without a pause, the latter keep one connection each.
	openers, holders = 16, 50
	// linger is how long the app keeps its connections after Dokku's SIGTERM.
	linger = 4 * time.Second
	// perPhase is how many connections each version answers, at the least.
	perPhase = 3000
	// patience bounds the wait for what clients have to see.
	patience = 30 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	engine := flags.String("engine", builtin, "what serves the port: builtin or haproxy")
	keep := flags.Bool("keep", false, "keep everything running at the end, for a look at the statistics page, until Enter or Ctrl-C")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *engine != builtin && *engine != haproxy {
		fmt.Fprintf(stderr, "-engine is %q: it must be %s or %s\n", *engine, builtin, haproxy)
		return 2
	}
	d := &demo{out: stdout, engine: *engine}
	if *keep {
		d.keep = stdin
	}
	err := d.play(ctx)
	interrupted := err != nil && ctx.Err() != nil
	if interrupted {
		fmt.Fprintln(stderr, "\nThe demo was interrupted.")
		err = nil // it says the same in other words
	}
	report, closeErr := d.close()
	if err := errors.Join(err, closeErr); err != nil {
		if d.load != nil {
			_ = report.Print(stderr) // what clients saw says more than the error
		}
		fmt.Fprintf(stderr, "\nThe demo failed: %v\n", err)
		return 1
	}
	if interrupted {
		return 130
	}
	fmt.Fprintln(stdout, report.Summary())
	if report.Failed() > 0 || report.Held.Broken > 0 {
		return 1
	}
	return 0
}

// The engines.
const (
	builtin = "builtin"
	haproxy = "haproxy"
)

// stage is where the app is deployed.
type stage interface {
	// port is the public port.
	port() uint16
	// push deploys a version of the app. It calls switched when new connections go to that version only, and before an old
	// container gets SIGTERM stopping with its id.
	push(ctx context.Context, version string, switched func(), stopping func(container string)) error
	// show prints what an operator sees of the public port.
	show(ctx context.Context) error
	// close ends all that runs.
	close() error
}

type demo struct {
	out    io.Writer
	engine string
	keep   io.Reader // nil: end at once

	// What there is up to now; close ends it.
	dir   string
	stage stage
	load  *load.Load

	version string // pushed last
}

// play is the whole demo. Close is needed whatever comes of it.
func (d *demo) play(ctx context.Context) error {
	docker := dockerAnswers(ctx)
	if d.engine == haproxy {
		if err := needs(docker); err != nil {
			return err
		}
	}
	if err := d.setUp(ctx, docker == nil); err != nil {
		return err
	}
	if err := d.deploys(ctx); err != nil {
		return err
	}
	d.step("What %d clients that connect without a pause, and %d that hold one connection, have seen", openers, holders)
	if err := d.load.Report().Print(d.out); err != nil {
		return err
	}
	if err := d.stage.show(ctx); err != nil {
		return err
	}
	if d.keep != nil {
		return d.wait(ctx)
	}
	return nil
}

// setUp builds what is to be shown and starts it.
func (d *demo) setUp(ctx context.Context, docker bool) (err error) {
	d.step("Building the plugin and an app to deploy")
	if d.dir, err = os.MkdirTemp("", "dokku-expose-demo-"); err != nil {
		return err
	}
	if docker {
		d.stage, err = newContainers(ctx, d)
	} else {
		d.stage, err = newProcesses(ctx, d)
	}
	return err
}

// close ends the clients, whose report it returns, and all the rest.
func (d *demo) close() (report load.Report, err error) {
	if d.dir == "" {
		return report, nil
	}
	d.step("Cleaning up")
	if d.load != nil {
		report = d.load.Stop()
	}
	if d.stage != nil {
		err = d.stage.close()
	}
	return report, errors.Join(err, os.RemoveAll(d.dir))
}

// deploys pushes three versions; from the first one on, clients watch.
func (d *demo) deploys(ctx context.Context) error {
	if err := d.push(ctx, "v1"); err != nil {
		return err
	}
	d.step("%d clients connect to port %d without a pause, %d hold a connection", openers, d.stage.port(), holders)
	var err error
	d.load, err = load.Start(ctx, load.Config{
		Addr:    netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), d.stage.port()),
		Openers: openers, Holders: holders,
	})
	if err != nil {
		return err
	}
	d.load.Mark("v1")
	d.load.Phase("v1 serves")
	if err := d.await(ctx); err != nil {
		return err
	}
	for _, version := range []string{"v2", "v3"} {
		d.load.Phase("git push of " + version)
		if err := d.push(ctx, version); err != nil {
			return err
		}
		if err := d.await(ctx); err != nil {
			return err
		}
	}
	d.step("Waiting for the held connections: the old containers keep theirs for %s more", linger)
	d.load.Phase("old containers end")
	return d.awaitHeld(ctx)
}

// push is a git push of a version of the app.
func (d *demo) push(ctx context.Context, version string) error {
	d.step("Deploying %s of the app %s", version, app)
	fmt.Fprintf(d.out, "$ cat PORTS\n%s$ git push dokku main\n", d.ports())
	d.version = version
	return d.stage.push(ctx, version, d.switched, d.stopping)
}

// ports is the app's PORTS file.
func (d *demo) ports() string { return fmt.Sprintf("%d:%d\n", d.stage.port(), private) }

// switched marks the moment from which on a version is the only one: when post-deploy has returned.
func (d *demo) switched() {
	if d.load != nil {
		d.load.Mark(d.version)
		d.load.Phase(d.version + " serves")
	}
}

// stopping tells the clients' side which container is about to get SIGTERM, and for how long it stays all the same.
func (d *demo) stopping(container string) {
	if d.load != nil {
		d.load.Retired(container, linger)
	}
}

// await returns when the version that serves has answered for a while.
func (d *demo) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return d.load.Await(ctx, perPhase)
}

// awaitHeld returns when every holder's connection is one to the last version.
func (d *demo) awaitHeld(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if d.load.Report().Holding[d.version] == holders {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the end of the old containers: %w", context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// wait returns when somebody presses Enter.
func (d *demo) wait(ctx context.Context) error {
	d.step("Everything runs on, the clients too, until you press Enter or Ctrl-C")
	pressed := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(d.keep).ReadString('\n')
		pressed <- err
	}()
	select {
	case <-ctx.Done():
		return nil
	case err := <-pressed:
		if errors.Is(err, io.EOF) { // nobody is there who could press anything
			<-ctx.Done()
			return nil
		}
		return err
	}
}

// step prints what comes next.
func (d *demo) step(format string, args ...any) { fmt.Fprintf(d.out, "\n==> "+format+"\n", args...) }
