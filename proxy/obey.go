package proxy

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"dokku-expose/deploy"
)

// offerInterval is the time between two looks for somebody to follow.
const offerInterval = time.Second

// obey is what a daemon does that was taken over from: it treats its connections as its successor says, at the other end of conn,
// until they have ended. When the successor goes, nobody vouches any more for the addresses that clients may still wait for, so
// these end. The next daemon is told that this one is there: it shall not be forgotten with all its connections.
func (d *daemon) obey(conn *net.UnixConn) {
	for conn != nil {
		err := d.follow(wire{conn})
		d.drop(conn)
		if d.closing.Err() != nil {
			return
		}
		d.log.Warn("the daemon that took over has gone; looking for the next one", "connections", d.server.connections(), "reason", err)
		d.server.follow(deploy.Table{})
		conn = d.findLeader()
	}
}

// follow does what the other side says until that has gone.
func (d *daemon) follow(w wire) error {
	for {
		if err := w.conn.SetDeadline(time.Time{}); err != nil {
			return err
		}
		line, files, err := w.receive()
		closeAll(files)
		if err != nil {
			return err
		}
		var answer response
		r, err := decodeRequest(line)
		switch {
		case err != nil:
			if r.Call == callApply {
				// Of a table that it can't read it does not know whom it may still connect to.
				d.server.follow(deploy.Table{})
			}
			answer = refusal(err)
		case r.Call == callApply:
			d.server.follow(*r.Table)
			answer.Applied = &deploy.Applied{}
		case r.Call == callEnd:
			d.end()
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

// findLeader looks for the daemon that is in charge now, until there is one that this one can follow. It returns nil when this one
// has ended before.
func (d *daemon) findLeader() *net.UnixConn {
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

// offer asks to be one of the predecessors of the daemon that answers at the control socket.
func (d *daemon) offer() (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(d.closing, callTimeout)
	defer cancel()
	conn, err := dialControl(ctx, d.control)
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
		answer, files, err = exchange(wire{conn}, request{Call: callFollow})
		closeAll(files)
		switch {
		case err != nil:
		case answer.Superseded:
			err = errSuperseded
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

// lead makes the daemon at the other end of conn one of the predecessors, when it is this one that is in charge.
func (d *daemon) lead(conn *net.UnixConn) (bool, error) {
	s, w := d.server, wire{conn}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired {
		return false, w.send(d.answer(response{Superseded: true}))
	}
	if err := w.send(d.answer(response{})); err != nil {
		return false, err
	}
	d.predecessors.takeIn(conn)
	return true, nil
}
