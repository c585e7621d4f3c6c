package proxy

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
)

// Options say how a daemon runs. What has no default must be set.
type Options struct {
	// Control is the path of the control socket. Its folder must outlive the daemon, or the next one finds nobody to take over
	// from; CONTROL.lock and CONTROL.daemons are made beside it.
	Control string
	// Version is the program's, for messages and the status.
	Version string
	// Reconcile brings the daemon up to date, at once and then whenever there is reason to, until ctx ends. It is called when the
	// daemon answers at its control socket, and its error ends the daemon.
	Reconcile func(ctx context.Context, local *Local) error
	// Page tells where the statistics page listens, the zero value when nowhere. It may be nil.
	Page func() netip.AddrPort
	// Failed is called when a server has gone down, which only a table can bring back; it must not block. It may be nil.
	Failed func()
	// Orphaned is closed when the process that keeps the daemon running has gone, see [Master]. It may be nil.
	Orphaned <-chan struct{}
	// Linger is how long an orphaned daemon goes on for somebody to take over from it.
	Linger time.Duration
	// Drain is how long connections may go on when the daemon is ended. Those that are left are reset.
	Drain time.Duration
	// Deadline is asked when another daemon has taken over, how long connections may go on.
	Deadline func() time.Duration
	Log      *slog.Logger
}

// Run is a daemon's life. It ends when ctx does, or when another daemon has taken over and the connections of this one have
// ended; that is no error.
func Run(ctx context.Context, o Options) error {
	// Whoever reads the log may have gone before this process: that must not end it, and its connections.
	signal.Ignore(syscall.SIGPIPE)
	list, err := enlist(o.Control)
	if err != nil {
		return err
	}
	defer list.Close()
	server, err := NewServer(o.Log)
	if err != nil {
		return err
	}
	if o.Failed != nil {
		server.failed = o.Failed
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	d := newDaemon(server, end, o)
	if err := d.open(ctx); err != nil {
		d.predecessors.close()
		server.Close(expired())
		return err
	}
	serving := make(chan struct{})
	go func() {
		defer close(serving)
		d.serve()
	}()

	err = d.reconcile(ctx, o)
	superseded := !d.server.retireOnce()
	drain, cancel := draining(ctx, o, superseded)
	defer cancel()
	if !superseded {
		// Before it stops listening there: whoever found that nobody answers would open the socket anew, and lose it.
		err = errors.Join(err, d.removeControl())
	}
	err = errors.Join(err, d.stopListening())
	if !superseded {
		d.leave(err == nil)
	}
	<-serving
	server.Close(drain)
	d.close()
	return err
}

// reconcile keeps the server up to date until the daemon is to end, or has been superseded.
func (d *daemon) reconcile(ctx context.Context, o Options) error {
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- o.Reconcile(ctx, &Local{d}) }()
	var linger <-chan time.Time
	orphaned := o.Orphaned
	running := true
	defer func() {
		stop()
		if running {
			<-ended
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.superseded:
			return nil
		case err := <-ended:
			running, ended = false, nil
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("reconcile: %w", err)
			}
		case <-orphaned:
			if len(d.server.addresses()) == 0 && d.server.connections() == 0 && d.predecessors.none() {
				// Nobody would miss anything.
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

// draining is how long the connections of a daemon may go on that does not serve any more.
func draining(ctx context.Context, o Options, superseded bool) (drain context.Context, cancel context.CancelFunc) {
	if !superseded {
		return context.WithTimeout(context.Background(), o.Drain)
	}
	drain, cancel = context.WithTimeout(context.Background(), o.Deadline())
	context.AfterFunc(ctx, func() { time.AfterFunc(o.Drain, cancel) })
	return drain, cancel
}

// expired is a context that has ended.
func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// leave has nobody follow this daemon any more, which follows nobody itself: no address is vouched for. For good means that no other
// daemon is going to come; predecessors then end as this one does.
func (d *daemon) leave(forGood bool) {
	if forGood {
		d.predecessors.terminate()
	}
	d.predecessors.close()
	d.server.follow(deploy.Table{})
}

// removeControl removes the control socket, unless what is there is not this daemon's any more.
func (d *daemon) removeControl() error {
	now, err := os.Lstat(d.control)
	if err == nil && os.SameFile(now, d.socket) {
		err = os.Remove(d.control)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
