package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/proxy"
)

const (
	// controlMode lets the daemon's group in, which is Dokku's: hooks run as Dokku's user.
	controlMode = 0o660
	// retryInterval is the time between two attempts to reach a daemon that is being replaced, or to accept a connection.
	retryInterval = 100 * time.Millisecond
)

// open makes d the daemon at the control socket: it takes over from the one that answers there, or begins anew.
func (d *daemon) open(ctx context.Context) error {
	// Two that start at the same time must not both find that no daemon answers.
	lock, err := deploy.Acquire(ctx, d.path+".lock")
	if err != nil {
		return err
	}
	defer func() { _ = lock.Release() }()
	if err := d.takePlace(ctx); err != nil {
		return err
	}
	// A file that somebody has removed already is not this daemon's to remove.
	d.socket, _ = os.Lstat(d.path)
	return nil
}

func (d *daemon) takePlace(ctx context.Context) error {
	for {
		conn, err := dial(ctx, d.path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
			d.listener, err = listenControl(d.path)
			return err
		}
		if err != nil {
			return fmt.Errorf("the control socket %s: %w", d.path, err)
		}
		err = d.takeOver(conn)
		switch {
		case err == nil:
			return nil
		// The other one stopped, or was taken over from, in the meantime.
		case errors.Is(err, proxy.ErrSuperseded), disconnected(err):
		default:
			return fmt.Errorf("take over from the daemon that answers at %s: %w", d.path, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(retryInterval):
		}
	}
}

// listenControl opens the control socket where there is none, or one that a dead daemon left behind.
func listenControl(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the control socket of a daemon that is gone: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	// A successor goes on with it.
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(path, controlMode); err != nil {
		return nil, errors.Join(fmt.Errorf("open the control socket to the group: %w", err), listener.Close())
	}
	return listener, nil
}

// takeOver gets all sockets from the daemon at the other end of conn, and serves with them.
func (d *daemon) takeOver(conn *net.UnixConn) (err error) {
	var listener *net.UnixListener
	predecessors := []*net.UnixConn{conn}
	defer func() {
		if err == nil {
			return
		}
		for _, p := range predecessors {
			_ = p.Close()
		}
		if listener != nil {
			_ = listener.Close()
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return err
	}
	w := wire{conn, d.protocol}
	answer, files, err := w.exchange(request{Call: callHandover})
	if err != nil {
		return err
	}
	defer closeFiles(files)
	switch {
	case answer.Superseded:
		return proxy.ErrSuperseded
	case answer.Error != "":
		return fmt.Errorf("%s (version %s)", answer.Error, answer.Version)
	case answer.Handover == nil, len(files) != len(answer.Handover.Table.Routes)+len(answer.Handover.Flows)+1+answer.Handover.Predecessors:
		return fmt.Errorf("it handed over %d sockets, which is not what it says", len(files))
	}
	table, flows := answer.Handover.Table, answer.Handover.Flows
	sockets := len(table.Routes) + len(flows)
	if listener, err = inherit[*net.UnixListener](files[sockets], net.FileListener); err != nil {
		return err
	}
	// A successor goes on with it.
	listener.SetUnlinkOnClose(false)
	for _, file := range files[sockets+1:] {
		predecessor, err := inherit[*net.UnixConn](file, net.FileConn)
		if err != nil {
			return err
		}
		predecessors = append(predecessors, predecessor)
	}
	if err := d.server.TakeOver(table, flows, files[:sockets]); err != nil {
		return err
	}
	// Both daemons serve until the other one has been told.
	answer, received, err := w.exchange(request{Call: callHanded})
	closeFiles(received)
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	if err != nil {
		// Not wrapped: this daemon serves already, and must not begin anew for a reason that open would see.
		return fmt.Errorf("it does not let go: %v", err) //nolint:errorlint // see above
	}
	d.listener = listener
	d.predecessors.add(predecessors...)
	d.log.Info("took over", "version", answer.Version, "ports", len(table.Routes))
	return nil
}

// inherit opens a socket that was handed over as a file.
func inherit[T, I io.Closer](file *os.File, open func(*os.File) (I, error)) (socket T, err error) {
	opened, err := open(file)
	if err != nil {
		return socket, err
	}
	socket, ok := any(opened).(T)
	if !ok {
		err = errors.Join(fmt.Errorf("it handed over a %T, which should be a %T", opened, socket), opened.Close())
	}
	return socket, err
}
