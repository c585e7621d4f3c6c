package proxy

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"dokku-expose/deploy"
)

// predecessorTimeout bounds the wait for a predecessor's answer, which no caller of ours shall feel much.
const predecessorTimeout = 2 * time.Second

// predecessors are the daemons that were taken over from, each at the other end of a connection. They are told each table, so that
// they treat their connections as it says, and asked how many are left. One that ends closes the connection.
type predecessors struct {
	log *slog.Logger

	mu   sync.Mutex
	list []*net.UnixConn
}

func (p *predecessors) add(conns ...*net.UnixConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, conns...)
}

// follow tells them the table that is in force now.
func (p *predecessors) follow(t deploy.Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.each(func(conn *net.UnixConn) error {
		_, err := askPredecessor(conn, request{Call: callApply, Table: &t})
		return err
	})
}

// status asks them what they do.
func (p *predecessors) status() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := []Status{}
	p.each(func(conn *net.UnixConn) error {
		r, err := askPredecessor(conn, request{Call: callStatus})
		if err == nil && r.Status != nil {
			list = append(list, *r.Status)
		}
		return err
	})
	return list
}

// each calls f for all of them, and forgets those for which it fails: they have ended, or their connection is of no use any more.
func (p *predecessors) each(f func(*net.UnixConn) error) {
	p.list = slices.DeleteFunc(p.list, func(conn *net.UnixConn) bool {
		err := f(conn)
		if err == nil {
			return false
		}
		if !ended(err) {
			p.log.Error("a daemon that was taken over from does not answer; its connections go on without it being told of changes", "error", err)
		}
		_ = conn.Close()
		return true
	})
}

func askPredecessor(conn *net.UnixConn, r request) (response, error) {
	if err := conn.SetDeadline(time.Now().Add(predecessorTimeout)); err != nil {
		return response{}, err
	}
	answer, files, err := exchange(wire{conn}, r)
	closeAll(files)
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	return answer, err
}

// handOver calls f with them; unless that fails they are no longer ours.
func (p *predecessors) handOver(f func(conns []syscall.Conn) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	conns := make([]syscall.Conn, len(p.list))
	for i, conn := range p.list {
		conns[i] = conn
	}
	if err := f(conns); err != nil {
		return err
	}
	p.closeAll()
	return nil
}

func (p *predecessors) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeAll()
}

func (p *predecessors) closeAll() {
	for _, conn := range p.list {
		_ = conn.Close()
	}
	p.list = nil
}
