package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
)

// daemon answers at the control socket for a server, and hands it all over to a successor that asks for it there.
type daemon struct {
	version string
	log     *slog.Logger
	server  *Server
	// control is the path of the control socket, socket what is there since this daemon answers at it.
	control      string
	socket       os.FileInfo
	listener     *net.UnixListener
	predecessors predecessors
	// superseded is closed when a successor has taken over.
	superseded chan struct{}
	// page tells where the statistics page listens. It may be nil.
	page func() netip.AddrPort
	// end ends the daemon as SIGTERM does.
	end context.CancelFunc
	// closing ends when nobody is to be talked to any more.
	closing context.Context
	stop    context.CancelFunc

	mu    sync.Mutex
	conns map[*net.UnixConn]bool
	wg    sync.WaitGroup
}

func newDaemon(server *Server, end context.CancelFunc, o Options) *daemon {
	closing, stop := context.WithCancel(context.Background())
	return &daemon{
		control: o.Control, version: o.Version, page: o.Page, log: o.Log, server: server, predecessors: predecessors{log: o.Log},
		superseded: make(chan struct{}), end: end, closing: closing, stop: stop, conns: make(map[*net.UnixConn]bool),
	}
}

// apply makes a table real. Predecessors follow it.
func (d *daemon) apply(t deploy.Table) (deploy.Applied, error) {
	return d.server.applyAnd(t, d.predecessors.follow)
}

// serve answers at the control socket until that is closed.
func (d *daemon) serve() {
	for {
		conn, err := d.listener.AcceptUnix()
		switch {
		case err == nil:
			d.start(conn)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			d.log.Error("can't accept connections to the control socket for now", "error", err)
			time.Sleep(retryInterval)
		}
	}
}

func (d *daemon) start(conn *net.UnixConn) {
	if !d.keep(conn) {
		return
	}
	d.wg.Go(func() {
		became, err := d.talk(conn)
		if err != nil && !ended(err) {
			d.log.Error("control socket", "error", err)
		}
		switch became {
		case theSuccessor:
			d.obey(conn)
		case aPredecessor:
			d.release(conn)
		default:
			d.drop(conn)
		}
	})
}

// keep has a connection closed when the daemon ends, at once when it has. It is false then.
func (d *daemon) keep(conn *net.UnixConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing.Err() != nil {
		_ = conn.Close()
		return false
	}
	d.conns[conn] = true
	return true
}

// release leaves the connection to somebody else.
func (d *daemon) release(conn *net.UnixConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, conn)
}

func (d *daemon) drop(conn *net.UnixConn) {
	d.release(conn)
	_ = conn.Close()
}

// ended tells that the other side of a control connection has gone, or this one has been closed.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// role is what the other side of a control connection is.
type role int

const (
	aClient role = iota
	theSuccessor
	aPredecessor
)

// talk answers the requests of a client, until it has gone or turns out to be more than that.
func (d *daemon) talk(conn *net.UnixConn) (became role, err error) {
	w := wire{conn}
	for {
		if err := conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
			return aClient, err
		}
		line, files, err := w.receive()
		closeAll(files)
		if err != nil {
			return aClient, err
		}
		r, err := decodeRequest(line)
		switch {
		case err != nil:
			return aClient, w.send(d.answer(refusal(err)))
		case r.Call == callHandover:
			if done, err := d.handOver(w); done {
				return theSuccessor, err
			} else if err != nil {
				return aClient, err
			}
		case r.Call == callFollow:
			if done, err := d.lead(conn); done {
				return aPredecessor, nil
			} else if err != nil {
				return aClient, err
			}
		default:
			if err := w.send(d.answer(d.respond(r))); err != nil {
				return aClient, err
			}
		}
	}
}

// refusal answers what was not understood.
func refusal(err error) response {
	return response{Error: err.Error(), TooOld: errors.Is(err, errTooOld)}
}

func (d *daemon) answer(r response) response {
	r.Protocol, r.Version = protocol, d.version
	return r
}

func (d *daemon) respond(r request) response {
	switch r.Call {
	case callApply:
		applied, err := d.apply(*r.Table)
		if errors.Is(err, errSuperseded) {
			return response{Superseded: true}
		}
		return appliedResponse(applied, err)
	case callObserve:
		if d.server.isRetired() {
			return response{Superseded: true}
		}
		return response{Observed: d.observe(r.Aspects)}
	}
	return response{Error: fmt.Sprintf("%s is not to be asked now", r.Call)}
}

// handOver gives all sockets to the one that asks. It serves with them before it says so; then this daemon stops listening.
// When the other one fails before, nothing has changed here.
func (d *daemon) handOver(w wire) (done bool, err error) {
	// Whoever wants another table meanwhile waits, and is sent to the successor. So does the end of this daemon, and one that ends
	// has the successor begin anew.
	s := d.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired {
		return false, w.send(d.answer(response{Superseded: true}))
	}
	table := s.provenTable()
	err = d.predecessors.handOver(func(predecessors []syscall.Conn) error {
		var files []syscall.Conn
		for _, r := range table.Routes {
			files = append(files, s.listeners[r.Frontend].tcp)
		}
		files = append(files, d.listener)
		files = append(files, predecessors...)
		offer := handover{Table: table, Predecessors: len(predecessors)}
		if err := w.send(d.answer(response{Handover: &offer}), files...); err != nil {
			return err
		}
		line, received, err := w.receive()
		closeAll(received)
		if err != nil {
			return err
		}
		if r, err := decodeRequest(line); err != nil || r.Call != callHanded {
			return errors.Join(fmt.Errorf("the successor said %q", line), err)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("a successor did not take over, so this daemon goes on: %w", err)
	}
	d.log.Info("another daemon has taken over", "connections", s.connections())
	s.retire()
	err = d.stopListening()
	close(d.superseded)
	return true, errors.Join(err, w.send(d.answer(response{})))
}

// stopListening stops accepting connections to the control socket.
func (d *daemon) stopListening() error {
	if err := d.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// close ends all control connections and waits until nobody is served there any more.
func (d *daemon) close() {
	d.mu.Lock()
	d.stop()
	for conn := range d.conns {
		_ = conn.Close()
	}
	d.mu.Unlock()
	d.wg.Wait()
	d.predecessors.close()
}
