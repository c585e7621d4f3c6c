package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/proxy"
)

// daemon answers at the control socket for a server, until a successor takes over both.
type daemon struct {
	version  string
	protocol protocol
	log      *slog.Logger
	server   *proxy.Server
	// path is that of the control socket, socket the file that is there since this daemon answers.
	path         string
	socket       os.FileInfo
	listener     *net.UnixListener
	predecessors predecessors
	// changes keeps apart what must be known to all predecessors or none: one Apply, handover, new predecessor or end at a time.
	changes sync.Mutex
	// superseded is closed when a successor has taken over.
	superseded chan struct{}
	// page is the address of the statistics page. It may be nil.
	page func() netip.AddrPort
	// shutDown stops the daemon as SIGTERM does.
	shutDown context.CancelFunc
	// closing ends when all control connections are closed.
	closing context.Context
	close   context.CancelFunc

	mu    sync.Mutex
	conns map[*net.UnixConn]bool
	wg    sync.WaitGroup
}

func newDaemon(server *proxy.Server, shutDown context.CancelFunc, o Options, p protocol) *daemon {
	closing, closeConns := context.WithCancel(context.Background())
	return &daemon{
		path: o.Control, version: o.Version, protocol: p, page: o.Page, log: o.Log, server: server,
		predecessors: predecessors{log: o.Log, protocol: p}, superseded: make(chan struct{}),
		shutDown: shutDown, closing: closing, close: closeConns, conns: make(map[*net.UnixConn]bool),
	}
}

// apply has the server apply a table, and the predecessors follow the one that is in force then. A table that the server refuses leaves
// that as it was.
func (d *daemon) apply(t deploy.Table) (deploy.Applied, error) {
	d.changes.Lock()
	defer d.changes.Unlock()
	applied, err := d.server.Apply(d.closing, t)
	if !errors.Is(err, proxy.ErrSuperseded) {
		d.predecessors.follow(d.server.Table())
	}
	return applied, err
}

// retire retires the server. It returns false when a successor has taken over: a handover that runs comes first.
func (d *daemon) retire() bool {
	d.changes.Lock()
	defer d.changes.Unlock()
	return d.server.Retire()
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
		if err != nil && !disconnected(err) {
			d.log.Error("control socket", "error", err)
		}
		switch became {
		case theSuccessor:
			d.followSuccessors(conn)
		case aPredecessor:
			d.release(conn)
		default:
			d.drop(conn)
		}
	})
}

// keep has a connection closed when the daemon closes. Once it has, keep closes the connection at once and returns false.
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

// release leaves the connection to the predecessors.
func (d *daemon) release(conn *net.UnixConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, conn)
}

func (d *daemon) drop(conn *net.UnixConn) {
	d.release(conn)
	_ = conn.Close()
}

// role is that of the other side of a control connection.
type role int

const (
	aClient role = iota
	theSuccessor
	aPredecessor
)

// talk answers requests until the client has gone, or has turned out to be a successor or a predecessor.
func (d *daemon) talk(conn *net.UnixConn) (became role, err error) {
	w := wire{conn, d.protocol}
	for {
		if err := conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
			return aClient, err
		}
		line, files, err := w.receive()
		closeFiles(files)
		if err != nil {
			return aClient, err
		}
		r, err := d.protocol.decode(line)
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
			if done, err := d.takeIn(w); done {
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

// refusal answers a message that was not understood.
func refusal(err error) response {
	return response{Error: err.Error(), TooOld: errors.Is(err, errTooOld)}
}

func (d *daemon) answer(r response) response {
	r.Protocol, r.Version = d.protocol.version, d.version
	return r
}

func (d *daemon) respond(r request) response {
	switch r.Call {
	case callApply:
		applied, err := d.apply(*r.Table)
		if errors.Is(err, proxy.ErrSuperseded) {
			return response{Superseded: true}
		}
		return appliedResponse(applied, err)
	case callObserve:
		if d.server.Retired() {
			return response{Superseded: true}
		}
		return response{Observed: d.observe(r.Aspects)}
	}
	return response{Error: fmt.Sprintf("%s is not to be asked now", r.Call)}
}

// handOver gives all sockets to a successor. That serves with them before it says so, and then this daemon stops listening. A successor
// that fails before changes nothing here. Clients that apply a table meanwhile wait, and are sent to the successor.
func (d *daemon) handOver(w wire) (done bool, err error) {
	d.changes.Lock()
	defer d.changes.Unlock()
	err = d.server.HandOver(func(t deploy.Table, files []syscall.Conn, flows []proxy.Flow) error {
		for _, f := range flows {
			files = append(files, f)
		}
		return d.predecessors.handOver(func(conns []syscall.Conn) error {
			files := append(append(files, d.listener), conns...)
			offer := handover{Table: t, Flows: flows, Predecessors: len(conns)}
			if err := w.send(d.answer(response{Handover: &offer}), files...); err != nil {
				return err
			}
			line, received, err := w.receive()
			closeFiles(received)
			if err != nil {
				return err
			}
			if r, err := d.protocol.decode(line); err != nil || r.Call != callHanded {
				return errors.Join(fmt.Errorf("the successor said %q", line), err)
			}
			return nil
		})
	})
	switch {
	case errors.Is(err, proxy.ErrSuperseded):
		return false, w.send(d.answer(response{Superseded: true}))
	case err != nil:
		return false, fmt.Errorf("a successor did not take over, so this daemon goes on: %w", err)
	}
	d.log.Info("another daemon has taken over", "connections", d.server.Connections())
	err = d.stopListening()
	close(d.superseded)
	return true, errors.Join(err, w.send(d.answer(response{})))
}

// takeIn makes the daemon at the other end one of the predecessors, unless this one has been superseded itself.
func (d *daemon) takeIn(w wire) (done bool, err error) {
	d.changes.Lock()
	defer d.changes.Unlock()
	if d.server.Retired() {
		return false, w.send(d.answer(response{Superseded: true}))
	}
	if err := w.send(d.answer(response{})); err != nil {
		return false, err
	}
	d.predecessors.takeIn(w.conn)
	return true, nil
}

// stopListening stops accepting connections to the control socket.
func (d *daemon) stopListening() error {
	if err := d.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// closeConns closes all control connections and waits until none is served any more.
func (d *daemon) closeConns() {
	d.mu.Lock()
	d.close()
	for conn := range d.conns {
		_ = conn.Close()
	}
	d.mu.Unlock()
	d.wg.Wait()
	d.predecessors.close()
}
