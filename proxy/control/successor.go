package control

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/proxy"
)

// offerInterval is the time between two attempts to find another successor.
const offerInterval = time.Second

// followSuccessors is the rest of the life of a daemon that was superseded: its connections are treated as the successor at the other end
// of conn says, until they have closed. Without a successor no address is vouched for any more, so clients that are held are closed. The
// daemon then follows the next one that answers at the control socket, which would not know of it and its connections otherwise.
func (d *daemon) followSuccessors(conn *net.UnixConn) {
	for conn != nil {
		err := d.follow(wire{conn, d.protocol})
		d.drop(conn)
		if d.closing.Err() != nil {
			return
		}
		d.log.Warn("the daemon that took over has gone; looking for the next one", "connections", d.server.Connections(), "reason", err)
		d.server.Follow(deploy.Table{})
		conn = d.nextSuccessor()
	}
}

// follow carries out the requests of one successor until that has gone.
func (d *daemon) follow(w wire) error {
	for {
		if err := w.conn.SetDeadline(time.Time{}); err != nil {
			return err
		}
		line, files, err := w.receive()
		closeFiles(files)
		if err != nil {
			return err
		}
		var answer response
		r, err := d.protocol.decode(line)
		switch {
		case err != nil:
			if r.Call == callApply {
				// The servers of a table that can't be read are not known, so none may be connected to.
				d.server.Follow(deploy.Table{})
			}
			answer = refusal(err)
		case r.Call == callApply:
			d.server.Follow(*r.Table)
			answer.Applied = &deploy.Applied{}
		case r.Call == callEnd:
			d.shutDown()
		case r.Call == callObserve:
			answer.Observed = d.observe(r.Aspects)
		default:
			answer = d.respond(r)
		}
		if err := w.send(d.answer(answer)); err != nil {
			return err
		}
	}
}

// nextSuccessor waits for a daemon that this one can follow. It returns nil when this one closes before.
func (d *daemon) nextSuccessor() *net.UnixConn {
	for {
		select {
		case <-d.closing.Done():
			return nil
		case <-time.After(offerInterval):
		}
		if conn, err := d.offer(); err == nil {
			d.log.Info("another daemon is followed")
			return conn
		}
	}
}

// offer asks the daemon that answers at the control socket to take this one in as a predecessor.
func (d *daemon) offer() (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(d.closing, callTimeout)
	defer cancel()
	conn, err := dial(ctx, d.path)
	if err != nil {
		return nil, err
	}
	if !d.keep(conn) {
		return nil, net.ErrClosed
	}
	err = conn.SetDeadline(time.Now().Add(callTimeout))
	if err == nil {
		var answer response
		var files []*os.File
		answer, files, err = wire{conn, d.protocol}.exchange(request{Call: callFollow})
		closeFiles(files)
		switch {
		case err != nil:
		case answer.Superseded:
			err = proxy.ErrSuperseded
		case answer.Error != "":
			err = errors.New(answer.Error)
		}
	}
	if err != nil {
		d.drop(conn)
		return nil, err
	}
	return conn, nil
}
