package tcp

import (
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// maxLoops bounds the loops on hosts with many cores.
	maxLoops = 32
	// eventsAtOnce is how many events a loop gets with one call.
	eventsAtOnce = 256
)

// source is what a loop watches a descriptor for.
type source interface {
	// ready is called in the loop, each time the descriptor's state may have changed. It must not block.
	ready(events uint32)
}

// loop is an event loop over epoll(7), edge-triggered: one goroutine, to which all that it watches belongs. Others get at it by
// post only, so that nothing in a relay needs a lock, and no descriptor is used after it was closed.
type loop struct {
	epoll, wake int
	// load counts the clients' connections that are the loop's.
	load atomic.Int64

	mu    sync.Mutex
	tasks []func()
	// awake tells that the loop looks at tasks before it waits again.
	awake bool

	// What follows is the loop's own.
	slots []slot
	free  []int32
	// sweeps look after relays that may not be idle for ever, by how long they may.
	sweeps map[limits]*sweep
	// runnable are flows that have had their turn, and have more to move.
	runnable []*flow
	// buffer is what a loop copies with.
	buffer *[bufferSize]byte
}

// slot is a place for a source. Its generation tells a late event from one that is meant for the present source.
type slot struct {
	source
	generation int32
}

// cores is the number of loops: as many as the process may run on at its start. The program may raise GOMAXPROCS after that.
var cores = runtime.GOMAXPROCS(0)

// loops are those of the process, started when first needed.
var loops struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*loop]
	next atomic.Uint32
}

// allLoops starts the loops, one for each core, or returns those that run.
func allLoops() ([]*loop, error) {
	if list := loops.list.Load(); list != nil {
		return *list, nil
	}
	loops.mu.Lock()
	defer loops.mu.Unlock()
	if list := loops.list.Load(); list != nil {
		return *list, nil
	}
	var list []*loop
	for range min(maxLoops, cores) {
		l, err := newLoop()
		if err != nil {
			for _, l := range list {
				err = errors.Join(err, l.close())
			}
			return nil, err
		}
		list = append(list, l)
	}
	for _, l := range list {
		go l.run()
	}
	loops.list.Store(&list)
	return list, nil
}

// anyLoop returns each loop in turn.
func anyLoop() (*loop, error) {
	list, err := allLoops()
	if err != nil {
		return nil, err
	}
	return list[int(loops.next.Add(1))%len(list)], nil
}

func newLoop() (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(epoll))
	}
	l := &loop{epoll: epoll, wake: wake, awake: true, buffer: takeBuffer()}
	if _, err := l.watch(wake, unix.EPOLLIN, l); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *loop) close() error { return errors.Join(unix.Close(l.epoll), unix.Close(l.wake)) }

// ready is for the loop's own wake-up. An edge needs no reading.
func (l *loop) ready(uint32) {}

// post has a task run in the loop. It may be called from anywhere, and never waits for the task.
func (l *loop) post(task func()) {
	l.mu.Lock()
	asleep := !l.awake
	l.awake = true
	l.tasks = append(l.tasks, task)
	l.mu.Unlock()
	if asleep {
		// It can't fail: the counter is far from full.
		_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// do has a task run in the loop, and returns when it is done. It must not be called in a loop.
func (l *loop) do(task func()) {
	done := make(chan struct{})
	l.post(func() {
		defer close(done)
		task()
	})
	<-done
}

// leastLoaded chooses the loop of one more client: this one, or a random one that has fewer clients, because that costs a wake-up.
func (l *loop) leastLoaded() *loop {
	list := *loops.list.Load()
	if other := list[rand.IntN(len(list))]; other.load.Load()+1 < l.load.Load() {
		return other
	}
	return l
}

func (l *loop) run() {
	events := make([]unix.EpollEvent, eventsAtOnce)
	var (
		tasks []func()
		flows []*flow
	)
	for {
		n := l.wait(events)
		for i := range events[:n] {
			e := &events[i]
			if s := &l.slots[e.Fd]; s.source != nil && s.generation == e.Pad {
				s.ready(e.Events)
			}
		}
		flows, l.runnable = l.runnable, flows[:0]
		for i, f := range flows {
			f.run()
			flows[i] = nil
		}
		l.mu.Lock()
		tasks, l.tasks = l.tasks, tasks[:0]
		l.awake = true
		l.mu.Unlock()
		for i, task := range tasks {
			task()
			tasks[i] = nil
		}
	}
}

// wait waits for events, but not when there is something else to do.
func (l *loop) wait(events []unix.EpollEvent) int {
	timeout := -1
	l.mu.Lock()
	if len(l.tasks) > 0 || len(l.runnable) > 0 {
		timeout = 0
	} else {
		l.awake = false
	}
	l.mu.Unlock()
	n, err := unix.EpollWait(l.epoll, events, timeout)
	if err != nil && err != unix.EINTR {
		panic(os.NewSyscallError("epoll_wait", err)) // it has no other reason than a mistake in this file
	}
	return max(n, 0)
}

// watch has the source told of a descriptor's events. The place is for unwatch and rewatch.
func (l *loop) watch(fd int, events uint32, s source) (place int32, err error) {
	if n := len(l.free); n > 0 {
		place = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		place = int32(len(l.slots))
		l.slots = append(l.slots, slot{})
	}
	l.slots[place].source = s
	if err := l.control(unix.EPOLL_CTL_ADD, fd, events, place); err != nil {
		l.forget(place)
		return -1, err
	}
	return place, nil
}

// rewatch changes which events are told. What is so already is told again.
func (l *loop) rewatch(fd int, events uint32, place int32) error {
	return l.control(unix.EPOLL_CTL_MOD, fd, events, place)
}

// unwatch ends what watch began, for a descriptor that stays open.
func (l *loop) unwatch(fd int, place int32) error {
	l.forget(place)
	return l.control(unix.EPOLL_CTL_DEL, fd, 0, place)
}

// forget does the same for one that is closed.
func (l *loop) forget(place int32) {
	s := &l.slots[place]
	s.source = nil
	s.generation++
	l.free = append(l.free, place)
}

func (l *loop) control(op, fd int, events uint32, place int32) error {
	event := unix.EpollEvent{Events: events | unix.EPOLLET, Fd: place, Pad: l.slots[place].generation}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epoll, op, fd, &event))
}
