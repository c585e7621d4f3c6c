package proxy

import (
	"fmt"
	"sync"
	"syscall"

	"dokku-expose/proxy/tcp"
)

// greed is how many times the rest that is left for others a single listener may take. A flood on one port thus gets 4/5 of all
// connections, floods on ten ports 4/41 each, and there is always something left for the next port (a "dynamic threshold", as
// switches share their buffers).
const greed = 4

// limiter bounds the connections of all listeners together.
type limiter struct {
	// files is how many the process can have open.
	files int

	mu         sync.Mutex
	max, total int
	// alone tells that the only listener may have all connections, because an operator has set their number.
	alone bool
	// waiting are listeners that may have no more for now, because other listeners have the rest.
	waiting []*listener
	// closed is closed when a connection closes. It is nil while drain does not wait.
	closed chan struct{}
}

// acquire counts one more connection of a listener. It returns false when that may have no more for now: it is told to resume when
// a connection ends, of its own where it is full.
func (l *limiter) acquire(of *listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if of.most > 0 && of.count >= of.most {
		of.full = true
		return false
	}
	if l.total >= l.max || !l.alone && of.count >= greed*(l.max-l.total) {
		if !of.waits {
			of.waits = true
			l.waiting = append(l.waiting, of)
		}
		return false
	}
	of.count++
	l.total++
	return true
}

func (l *limiter) release(of *listener) {
	l.mu.Lock()
	of.count--
	l.total--
	if l.closed != nil {
		close(l.closed)
		l.closed = nil
	}
	waiting := l.takeWaiting()
	full := of.full
	of.full = false
	l.mu.Unlock()
	if full {
		of.tcp.Resume()
	}
	resume(waiting)
}

// takeWaiting returns those that are to be told to resume. mu is held.
func (l *limiter) takeWaiting() []*listener {
	waiting := l.waiting
	l.waiting = nil
	for _, w := range waiting {
		w.waits = false
	}
	return waiting
}

func resume(waiting []*listener) {
	for _, w := range waiting {
		w.tcp.Resume()
	}
}

// bound sets how many connections a listener may have at once, 0 for as many as there can be.
func (l *limiter) bound(of *listener, most int) {
	l.mu.Lock()
	of.most = most
	full := of.full
	of.full = false
	l.mu.Unlock()
	if full {
		of.tcp.Resume()
	}
}

// busy returns nil when there is no connection, else a channel that is closed when one closes.
func (l *limiter) busy() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total == 0 {
		return nil
	}
	if l.closed == nil {
		l.closed = make(chan struct{})
	}
	return l.closed
}

func (l *limiter) counts() (total, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total, l.max
}

const (
	// reservedFiles are for all that is neither a listener, nor a connection of a client, nor a pipe: the control socket, checks,
	// the log.
	reservedFiles = 256
	// minFiles is the fewest open files that make sense.
	minFiles = 1024
	// minConnections are allowed however many listeners there are; the error of a system call then names the shortage.
	minConnections = 16
)

// newLimiter allows as many connections as the limit of open files does. The runtime has raised that one to the hard limit
// already, as it does for every program that opens files. An error says that it is too low to work with.
func newLimiter() (*limiter, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("the limit of open files: %w", err)
	}
	if limit.Cur < minFiles {
		return nil, fmt.Errorf("the limit of open files is %d, at least %d are needed: "+
			"raise it where the daemon is started (LimitNOFILE of a systemd unit, ulimit -n)", limit.Cur, minFiles)
	}
	l := &limiter{files: int(min(limit.Cur, 4<<20))}
	l.resize(0, false, 0)
	return l, nil
}

// resize sets the most connections that there may be: total, or where that is 0 or too many, as many as there are files for beside
// so many others. Each takes two. alone tells that one listener has them all.
func (l *limiter) resize(others int, alone bool, total int) {
	most := max(minConnections, (l.files-reservedFiles-tcp.MaxPipeFiles-others)/2)
	if total > 0 {
		most = min(most, total)
	}
	l.mu.Lock()
	l.max, l.alone = most, alone && total > 0
	waiting := l.takeWaiting()
	l.mu.Unlock()
	resume(waiting)
}
