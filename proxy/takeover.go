package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/proxy/tcp"
)

// controlMode lets Dokku's group in, which is the daemon's: hooks run as Dokku's user.
const controlMode = 0o660

// open makes d the daemon at the control socket: it takes over from the one that answers there, or begins anew.
func (d *daemon) open(ctx context.Context) error {
	// Two that start at the same time must not both find that nobody is there.
	lock, err := deploy.Acquire(ctx, d.control+".lock")
	if err != nil {
		return err
	}
	defer func() { _ = lock.Release() }()
	if err := d.takePlace(ctx); err != nil {
		return err
	}
	// What somebody has taken away already is nobody's.
	d.socket, _ = os.Lstat(d.control)
	return nil
}

func (d *daemon) takePlace(ctx context.Context) error {
	path := d.control
	for {
		conn, err := dialControl(ctx, path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
			d.listener, err = listenControl(path)
			return err
		}
		if err != nil {
			return fmt.Errorf("the control socket %s: %w", path, err)
		}
		err = d.takeOver(conn)
		switch {
		case err == nil:
			return nil
		// The other one ended, or was taken over from, in the meantime.
		case errors.Is(err, errSuperseded), ended(err):
		default:
			return fmt.Errorf("take over from the daemon that answers at %s: %w", path, err)
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
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return err
	}
	w := wire{conn}
	answer, files, err := exchange(w, request{Call: callHandover})
	if err != nil {
		return err
	}
	defer func() { closeAll(files) }()
	switch {
	case answer.Superseded:
		return errSuperseded
	case answer.Error != "":
		return fmt.Errorf("%s (version %s)", answer.Error, answer.Version)
	case answer.Handover == nil, len(files) != len(answer.Handover.Table.Routes)+1+answer.Handover.Predecessors:
		return fmt.Errorf("it handed over %d sockets, which is not what it says", len(files))
	}
	table := answer.Handover.Table
	if err := check(table); err != nil {
		return err
	}
	next := func() *os.File {
		file := files[0]
		files = files[1:]
		return file
	}
	sockets := make([]*tcp.Listener, len(table.Routes))
	for i := range sockets {
		if sockets[i], err = tcp.NewListener(next()); err != nil {
			return errors.Join(err, closeListeners(sockets[:i]))
		}
	}
	if d.listener, err = inherit(next()); err != nil {
		return errors.Join(err, closeListeners(sockets))
	}
	predecessors := []*net.UnixConn{conn}
	for len(files) > 0 {
		predecessor, err := inheritConn(next())
		if err != nil {
			return errors.Join(err, closeListeners(sockets))
		}
		predecessors = append(predecessors, predecessor)
	}
	// From here on connections are accepted. Until the other one has been told, it accepts too.
	d.server.adopt(table, sockets)
	answer, files, err = exchange(w, request{Call: callHanded})
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	if err != nil {
		// Not wrapped: whatever it is, this daemon serves already and must not begin anew.
		return fmt.Errorf("it does not let go: %v", err) //nolint:errorlint // see above
	}
	d.predecessors.add(predecessors...)
	d.log.Info("took over", "version", answer.Version, "ports", len(table.Routes))
	return nil
}

func closeListeners(list []*tcp.Listener) (err error) {
	for _, l := range list {
		err = errors.Join(err, l.Close())
	}
	return err
}

func inherit(file *os.File) (*net.UnixListener, error) {
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	listener, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.New("the control socket that was handed over is none"), l.Close())
	}
	listener.SetUnlinkOnClose(false)
	return listener, nil
}

func inheritConn(file *os.File) (*net.UnixConn, error) {
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("the connection to a predecessor that was handed over is none"), c.Close())
	}
	return conn, nil
}
