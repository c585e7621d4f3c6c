package tcp

import (
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is what one splice(2) can move: the most that the kernel gives everybody (fs.pipe-max-size). Half of it costs a
	// quarter more CPU for each byte, the usual 64 KiB twice as much.
	pipeSize = 1 << 20
	// maxPipes bounds the pipes in use: 32 MiB of them are half of what one user's pipes may hold before the kernel makes
	// them tiny (fs.pipe-user-pages-soft). Whoever gets none copies.
	maxPipes = 32
	// maxIdlePipes are kept for the next who needs one.
	maxIdlePipes = 16
)

// pipe is what splice(2) needs between two sockets.
type pipe struct{ r, w int }

// pipePool lends pipes. The zero value is ready for use.
type pipePool struct {
	mu   sync.Mutex
	idle []*pipe
	open int
}

// get returns an empty pipe, or nil when there is none to be had.
func (p *pipePool) get() *pipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		got := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return got
	}
	if p.open >= maxPipes {
		return nil
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	// Refused to a user whose pipes hold too much already; the pipe then has its usual size.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	p.open++
	return &pipe{r: fds[0], w: fds[1]}
}

// put takes a pipe back. One that is not empty is of no use to anybody else.
func (p *pipePool) put(back *pipe, empty bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if empty && len(p.idle) < maxIdlePipes {
		p.idle = append(p.idle, back)
		return
	}
	p.open--
	_ = unix.Close(back.r)
	_ = unix.Close(back.w)
}

const bufferSize = 32 << 10

var (
	pipes   pipePool
	buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}
)

func takeBuffer() *[bufferSize]byte {
	return buffers.Get().(*[bufferSize]byte) //nolint:errcheck // the pool holds nothing else
}

// MaxPipeFiles is how many descriptors pipes take at the most, however many connections there are.
const MaxPipeFiles = 2 * maxPipes
