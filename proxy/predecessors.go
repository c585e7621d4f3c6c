package proxy

import (
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"dokku-expose/deploy"
)

// predecessorTimeout bounds the wait for a predecessor's answer, which no caller of ours shall feel much.
const predecessorTimeout = 2 * time.Second

// predecessors are the daemons that were taken over from, each at the other end of a connection. They are told each table, so that
// they treat their connections as it says, and asked how many are left. One that ends closes the connection. One that does not
// answer in time is hung up on, since its answer might come when something else was asked; it comes back, see [daemon.obey].
type predecessors struct {
	log *slog.Logger

	mu   sync.Mutex
	list []*predecessor
	// table is the last one that they were told.
	table *deploy.Table
}

type predecessor struct {
	conn *net.UnixConn
	// refuses is why it does not do what it was told last, "" when it does.
	refuses string
}

func (p *predecessors) add(conns ...*net.UnixConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		p.list = append(p.list, &predecessor{conn: conn})
	}
}

func (p *predecessors) none() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.list) == 0
}

// takeIn adds one that has missed what the others were told.
func (p *predecessors) takeIn(conn *net.UnixConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := &predecessor{conn: conn}
	if p.table == nil || p.tell(one, request{Call: callApply, Table: p.table}) {
		p.list = append(p.list, one)
	}
}

// follow tells them the table that is in force now.
func (p *predecessors) follow(t deploy.Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table = &t
	p.tellAll(request{Call: callApply, Table: &t})
}

// terminate ends them soon, with their connections.
func (p *predecessors) terminate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tellAll(request{Call: callEnd})
}

func (p *predecessors) tellAll(r request) {
	p.list = slices.DeleteFunc(p.list, func(one *predecessor) bool { return !p.tell(one, r) })
}

// tell returns false when one is of no use any more.
func (p *predecessors) tell(one *predecessor, r request) bool {
	answer, ok := p.ask(one, r)
	if answer.Error != "" && answer.Error != one.refuses {
		p.log.Error("a daemon that was taken over from does not do what it is told; its connections go on", "call", r.Call, "error", answer.Error)
	}
	one.refuses = answer.Error
	return ok
}

// observe asks them what they do.
func (p *predecessors) observe(aspects []deploy.Aspect) (list []*observed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = slices.DeleteFunc(p.list, func(one *predecessor) bool {
		answer, ok := p.ask(one, request{Call: callObserve, Aspects: aspects})
		if answer.Observed != nil && len(answer.Observed.Processes) > 0 {
			list = append(list, answer.Observed)
		}
		return !ok
	})
	return list
}

// ask returns false when there is no answer, and hangs up then.
func (p *predecessors) ask(one *predecessor, r request) (response, bool) {
	var answer response
	err := one.conn.SetDeadline(time.Now().Add(predecessorTimeout))
	if err == nil {
		var files []*os.File
		answer, files, err = exchange(wire{one.conn}, r)
		closeAll(files)
	}
	if err == nil {
		return answer, true
	}
	if !ended(err) {
		p.log.Error("a daemon that was taken over from does not answer; its connections go on, and it comes back when it can", "error", err)
	}
	_ = one.conn.Close()
	return response{}, false
}

// handOver calls f with them; unless that fails they are no longer ours.
func (p *predecessors) handOver(f func(conns []syscall.Conn) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	conns := make([]syscall.Conn, len(p.list))
	for i, one := range p.list {
		conns[i] = one.conn
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
	for _, one := range p.list {
		_ = one.conn.Close()
	}
	p.list = nil
}
