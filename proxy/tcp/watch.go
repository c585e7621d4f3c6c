package tcp

import "golang.org/x/sys/unix"

// Loop is one of the loops that relays run in, for what moves bytes by other means.
type Loop struct{ loop *loop }

// AnyLoop returns each loop in turn.
func AnyLoop() (Loop, error) {
	l, err := anyLoop()
	return Loop{l}, err
}

// Post has a task run in the loop, and does not wait for it.
func (l Loop) Post(task func()) { l.loop.post(task) }

// Do has a task run in the loop, and returns when it is done. It must not be called in a loop.
func (l Loop) Do(task func()) { l.loop.do(task) }

// Watch has ready called in the loop each time that there may be more to read of a descriptor, or an error of it. It is called in the
// loop, as is [Loop.Forget].
func (l Loop) Watch(fd int, ready func()) (Place, error) {
	place, err := l.loop.watch(fd, unix.EPOLLIN, watch(ready))
	return Place(place), err
}

// Forget ends a watch. The descriptor is closed after that.
func (l Loop) Forget(fd int, place Place) error { return l.loop.unwatch(fd, int32(place)) }

// Place is where a loop watches a descriptor.
type Place int32

// watch implements [source].
type watch func()

func (w watch) ready(uint32) { w() }
