package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/proxy"
)

// Options of a daemon. All must be set, unless they may be nil.
type Options struct {
	// Control is the path of the control socket. Its folder must outlive the daemon, or the next one can't take over from it;
	// CONTROL.lock and CONTROL.daemons are made beside it.
	Control string
	// Version is the program's, for messages and observations.
	Version string
	// Reconcile applies tables to the daemon, at once and then whenever there is reason to, until ctx ends. It is called when the
	// daemon answers at its control socket, and its error stops the daemon.
	Reconcile func(ctx context.Context, local *Local) error
	// Page is the address of the statistics page, the zero value for none. It may be nil.
	Page func() netip.AddrPort
	// Failed is called when a server has gone down, see [proxy.NewServer]. It may be nil.
	Failed func()
	// Orphaned is closed when the daemon's supervisor has gone, see [Supervise]. It may be nil.
	Orphaned <-chan struct{}
	// Linger is how long an orphaned daemon waits for a successor.
	Linger time.Duration
	// Drain is how long connections may go on when the daemon stops. Those that are left are cut.
	Drain time.Duration
	// Patient tells that the end of Run's context does not hurry the connections of a daemon that a successor has taken over from.
	Patient bool
	// Deadline is how long connections may go on when a successor has taken over. It is asked then.
	Deadline func() time.Duration
	Log      *slog.Logger
}

// Run is a daemon's life. It ends when ctx does, or when a successor has taken over and the connections of this one have closed; that
// is no error.
func Run(ctx context.Context, o Options) error { return run(ctx, o, ours()) }

func run(ctx context.Context, o Options, p protocol) error {
	// A reader of the log that goes must not end this process, and its connections.
	signal.Ignore(syscall.SIGPIPE)
	list, err := enlist(o.Control)
	if err != nil {
		return err
	}
	defer list.Close()
	server, err := proxy.NewServer(o.Log, o.Failed)
	if err != nil {
		return err
	}
	ctx, shutDown := context.WithCancel(ctx)
	defer shutDown()
	d := newDaemon(server, shutDown, o, p)
	if err := d.open(ctx); err != nil {
		shutDown()
		server.Close(ctx)
		return err
	}
	serving := make(chan struct{})
	go func() {
		defer close(serving)
		d.serve()
	}()

	err = d.reconcile(ctx, o)
	superseded := !d.retire()
	drain, cancel := draining(ctx, o, superseded)
	defer cancel()
	if !superseded {
		// The file goes before the socket closes: a daemon that found it unanswered would open it anew, and lose it to this removal.
		err = errors.Join(err, d.removeControl())
	}
	err = errors.Join(err, d.stopListening())
	if !superseded {
		d.leave(err == nil)
	}
	<-serving
	server.Close(drain)
	d.closeConns()
	return err
}

// reconcile runs Reconcile until the daemon is to stop, or has been superseded.
func (d *daemon) reconcile(ctx context.Context, o Options) error {
	ctx, stop := context.WithCancel(ctx)
	returned := make(chan error, 1)
	go func() { returned <- o.Reconcile(ctx, &Local{d}) }()
	var linger <-chan time.Time
	orphaned := o.Orphaned
	running := true
	defer func() {
		stop()
		if running {
			<-returned
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.superseded:
			return nil
		case err := <-returned:
			running, returned = false, nil
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("reconcile: %w", err)
			}
		case <-orphaned:
			if len(d.server.Table().Routes) == 0 && d.server.Connections() == 0 && d.predecessors.none() {
				// There is nothing to take over.
				return nil
			}
			d.log.Info("nobody keeps this daemon running any more; it waits for another one to take over", "at_most", o.Linger)
			orphaned, linger = nil, time.After(o.Linger)
		case <-linger:
			d.log.Info("nobody took over")
			return nil
		}
	}
}

// draining is the time in which the connections of a daemon that has retired may close by themselves.
func draining(ctx context.Context, o Options, superseded bool) (drain context.Context, cancel context.CancelFunc) {
	if !superseded {
		return context.WithTimeout(context.Background(), o.Drain)
	}
	drain, cancel = context.WithTimeout(context.Background(), o.Deadline())
	if o.Patient {
		return drain, cancel
	}
	context.AfterFunc(ctx, func() { time.AfterFunc(o.Drain, cancel) })
	return drain, cancel
}

// leave detaches all predecessors and drops every address, because no successor will keep them current. For good means that no other
// daemon will start; predecessors then shut down as this one does.
func (d *daemon) leave(forGood bool) {
	if forGood {
		d.predecessors.shutDown()
	}
	d.predecessors.close()
	d.server.Follow(deploy.Table{})
}

// removeControl removes the control socket, unless another daemon has made it anew.
func (d *daemon) removeControl() error {
	now, err := os.Lstat(d.path)
	if err == nil && os.SameFile(now, d.socket) {
		err = os.Remove(d.path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
