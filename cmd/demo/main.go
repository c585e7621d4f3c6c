// Command demo shows what dokku-expose is for: an app with a public TCP port is deployed again and again while clients use
// that port, and a table tells what they saw.
//
// All of it is real: the plugin's program, an HAProxy of its own, containers, connections. Only Dokku is not, whose part
// package internal/rig plays in a temporary folder. Nothing of it is left when the demo ends. The exit status is 0 when no
// connection failed and none was broken.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/client"

	"dokku-expose/hooks"
	"dokku-expose/internal/load"
	"dokku-expose/internal/rig"
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
	keep := flags.Bool("keep", false, "keep everything running at the end, for a look at the statistics page, until Enter or Ctrl-C")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	d := &demo{out: stdout}
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

type demo struct {
	out  io.Writer
	keep io.Reader // nil: end at once

	// What there is up to now; close ends it.
	dir  string
	host *rig.Host
	load *load.Load

	remote  *prefixer // what the host prints
	port    uint16
	version string // pushed last
}

// play is the whole demo. Close is needed whatever comes of it.
func (d *demo) play(ctx context.Context) error {
	if err := needs(ctx); err != nil {
		return err
	}
	if err := d.setUp(ctx); err != nil {
		return err
	}
	if err := d.deploys(ctx); err != nil {
		return err
	}
	d.step("What %d clients that connect without a pause, and %d that hold one connection, have seen", openers, holders)
	if err := d.load.Report().Print(d.out); err != nil {
		return err
	}
	for _, verb := range []string{"list", "stats"} {
		if err := d.dokku(verb); err != nil {
			return err
		}
	}
	if d.keep != nil {
		return d.wait(ctx)
	}
	return nil
}

// setUp builds what is to be shown and starts a host.
func (d *demo) setUp(ctx context.Context) (err error) {
	d.step("Building the plugin and an app to deploy")
	if d.dir, err = os.MkdirTemp("", "dokku-expose-demo-"); err != nil {
		return err
	}
	plugin, err := rig.BuildPlugin(ctx, d.dir)
	if err != nil {
		return err
	}
	server, err := rig.BuildApp(ctx, d.dir)
	if err != nil {
		return err
	}
	d.step("Starting a Dokku host in a temporary folder, with an HAProxy for dokku-expose")
	d.remote = &prefixer{w: d.out}
	d.host, err = rig.New(ctx, rig.Options{
		Binary: plugin, App: server, Triggers: hooks.Triggers(), Subcommands: hooks.Subcommands(), HAProxy: true, Out: d.remote,
		After:    d.afterTrigger,
		Stopping: d.stopping,
	})
	if err != nil {
		return err
	}
	d.port, err = d.host.FreePort()
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
	if d.host != nil {
		err = d.host.Close()
	}
	return report, errors.Join(err, os.RemoveAll(d.dir))
}

// needs says in one go what the machine lacks.
func needs(ctx context.Context) error {
	var errs []error
	if _, err := exec.LookPath("haproxy"); err != nil {
		if _, err := os.Stat("/usr/sbin/haproxy"); err != nil {
			errs = append(errs, errors.New("HAProxy is missing; Debian and Ubuntu: apt-get install haproxy"))
		}
	}
	if _, err := exec.LookPath("docker"); err != nil {
		errs = append(errs, errors.New("the docker program is missing; Debian and Ubuntu: apt-get install docker.io"))
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err == nil {
		defer docker.Close()
		_, err = docker.Ping(ctx)
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("docker does not answer, or not to this user: %w; start its service, or dockerd", err))
	}
	if len(errs) > 0 {
		return fmt.Errorf("this machine lacks something (as root, `make demo` installs and starts it):\n%w", errors.Join(errs...))
	}
	return nil
}

// deploys pushes three versions; from the first one on, clients watch.
func (d *demo) deploys(ctx context.Context) error {
	if err := d.push("v1"); err != nil {
		return err
	}
	d.step("%d clients connect to port %d without a pause, %d hold a connection", openers, d.port, holders)
	var err error
	d.load, err = load.Start(ctx, load.Config{
		Addr:    netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), d.port),
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
		if err := d.push(version); err != nil {
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
func (d *demo) push(version string) error {
	d.step("Deploying %s of the app %s", version, app)
	ports := fmt.Sprintf("%d:%d\n", d.port, private)
	fmt.Fprintf(d.out, "$ cat PORTS\n%s$ git push dokku main\n", ports)
	d.version, d.remote.prefix = version, "remote: "
	return d.host.Push(app, rig.Source{
		Version: version,
		Listen:  []uint16{private},
		Files:   map[string]string{"PORTS": ports},
		Env:     map[string]string{"LINGER": linger.String()},
	})
}

// afterTrigger marks the moment from which on a version is the only one: when post-deploy has returned.
func (d *demo) afterTrigger(c rig.Call, result rig.Result) {
	if c.Name != "post-deploy" || result.Code != 0 || d.load == nil {
		return
	}
	d.load.Mark(d.version)
	d.load.Phase(d.version + " serves")
}

// stopping tells the clients' side which container is about to get SIGTERM, and for how long it stays all the same.
func (d *demo) stopping(_, container string) {
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

// dokku runs a subcommand of the plugin.
func (d *demo) dokku(verb string) error {
	d.step("dokku expose:%s", verb)
	d.remote.prefix = ""
	result, err := d.host.Command(verb)
	if err == nil && result.Code != 0 {
		err = fmt.Errorf("dokku expose:%s: exit status %d", verb, result.Code)
	}
	return err
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

// prefixer puts a prefix before each line, as git does with what a remote says. It is used by one goroutine at a time.
type prefixer struct {
	w      io.Writer
	prefix string
	part   []byte // of a line
}

func (p *prefixer) Write(b []byte) (int, error) {
	p.part = append(p.part, b...)
	for {
		line, rest, found := bytes.Cut(p.part, []byte("\n"))
		if !found {
			return len(b), nil
		}
		text := strings.TrimRight(p.prefix+string(line), " ")
		p.part = rest
		if _, err := fmt.Fprintln(p.w, text); err != nil {
			return 0, err
		}
	}
}
