package control

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

// predecessorTimeout bounds the wait for a predecessor's answer, because a client waits for it too.
const predecessorTimeout = 2 * time.Second

// predecessors are the daemons that were taken over from, each at the other end of a connection. They get each table, so that they
// treat their connections as it says, and are asked how many are left. A predecessor that shuts down closes the connection. When one does
// not answer in time the connection is closed, since the answer might come after another request; the predecessor connects again, see
// [daemon.followSuccessors].
type predecessors struct {
	log      *slog.Logger
	protocol protocol

	mu   sync.Mutex
	list []*predecessor
	// table is the last one that they got.
	table *deploy.Table
}

type predecessor struct {
	conn *net.UnixConn
	// refusal is why it did not carry out the last request, "" when it did.
	refusal string
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

// takeIn adds a predecessor that has missed the last table.
func (p *predecessors) takeIn(conn *net.UnixConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := &predecessor{conn: conn}
	if p.table == nil || p.tell(one, request{Call: callApply, Table: p.table}) {
		p.list = append(p.list, one)
	}
}

// follow has them treat their connections as the table in force says.
func (p *predecessors) follow(t deploy.Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table = &t
	p.tellAll(request{Call: callApply, Table: &t})
}

// shutDown has them shut down as this daemon does.
func (p *predecessors) shutDown() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tellAll(request{Call: callEnd})
}

func (p *predecessors) tellAll(r request) {
	p.list = slices.DeleteFunc(p.list, func(one *predecessor) bool { return !p.tell(one, r) })
}

// tell sends a request, and logs a new refusal. It returns false when there is no answer.
func (p *predecessors) tell(one *predecessor, r request) bool {
	answer, ok := p.ask(one, r)
	if answer.Error != "" && answer.Error != one.refusal {
		p.log.Error("a daemon that was taken over from does not do what it is told; its connections go on", "call", r.Call, "error", answer.Error)
	}
	one.refusal = answer.Error
	return ok
}

// observe asks them for their observations of themselves.
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

// ask returns false when there is no answer, and closes the connection then.
func (p *predecessors) ask(one *predecessor, r request) (response, bool) {
	var answer response
	err := one.conn.SetDeadline(time.Now().Add(predecessorTimeout))
	if err == nil {
		var files []*os.File
		answer, files, err = wire{one.conn, p.protocol}.exchange(r)
		closeFiles(files)
	}
	if err == nil {
		return answer, true
	}
	if !disconnected(err) {
		p.log.Error("a daemon that was taken over from does not answer; its connections go on, and it comes back when it can", "error", err)
	}
	_ = one.conn.Close()
	return response{}, false
}

// handOver calls give with their connections, and closes these when that returns nil: the successor has them.
func (p *predecessors) handOver(give func(conns []syscall.Conn) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	conns := make([]syscall.Conn, len(p.list))
	for i, one := range p.list {
		conns[i] = one.conn
	}
	if err := give(conns); err != nil {
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
