package proxy

import (
	"container/list"
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/proxy/tcp"
	"dokku-expose/proxy/udp"
)

// flow is what UDP has for a connection: a client's datagrams to one address of this host, and the answers. It stays with its container for
// as long as that is vouched for and takes datagrams, and moves to another one with the client's next datagram. It belongs to the loop of
// its public address.
type flow struct {
	datagrams *datagrams
	route     *route
	key       flowKey
	peer      *udp.Peer
	// session is what the route's servers count.
	session *session
	// socket leads to the container, nil while there is none.
	socket *udp.Socket
	place  tcp.Place
	// last is when it had a datagram last. answered tells that this was an answer, turns how often the client has sent something after one.
	last     time.Time
	answered bool
	turns    int
	// age and ageOfSource are its places among all flows, and among those of its source.
	source           *flowSource
	age, ageOfSource *list.Element
	// held are datagrams that wait for a container since heldSince; or that a former server has got since its last answer, for it may end
	// before it has read them.
	held      [][]byte
	heldSince time.Time
}

// flowKey tells flows of one public address apart.
type flowKey struct {
	client netip.AddrPort
	local  netip.Addr
}

func keyOf(b *udp.Batch, i int) flowKey { return flowKey{b.Source(i), b.Local(i)} }

// datagramCounts are those of a route.
type datagramCounts struct {
	in, out atomic.Uint64
	dropped [dropReasons]atomic.Uint64
}

func (c *datagramCounts) drop(why dropReason, n int) { c.dropped[why].Add(uint64(n)) }

// receive sends datagrams of the client on, or has them wait for a container.
func (f *flow) receive(b *udp.Batch, from, to int, now time.Time) {
	f.route.datagrams.in.Add(uint64(to - from))
	f.touch(now, false)
	if f.barred() {
		f.detach()
	}
	for from < to {
		if f.socket == nil {
			if attached, changed := f.attach(); !attached {
				f.hold(b, from, to, changed)
				return
			}
			f.flush()
			continue
		}
		n, err := f.socket.Send(b, from, to, nil)
		switch {
		case err == nil:
			f.session.upstream.counters.In.Add(b.Size(from, from+n))
			if f.session.upstream.standing.Load() == former {
				f.keep(b, from, from+n)
			}
			from += n
		case refusal(err):
			f.refused()
		case errors.Is(err, unix.EMSGSIZE):
			f.route.datagrams.drop(congested, 1)
			from++
		default:
			f.route.datagrams.drop(congested, to-from)
			return
		}
	}
}

// ready sends the answers of the container to the client.
func (f *flow) ready() {
	if f.socket == nil || f.datagrams.paused {
		return
	}
	b := udp.TakeBatch()
	defer b.Release()
	for range batchesAtOnce {
		if f.barred() {
			f.leave()
			return
		}
		err := f.socket.Receive(b)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			f.refused()
			f.leave()
			return
		}
		f.answer(b)
		if b.Len() < udp.BatchSize {
			return
		}
	}
	f.datagrams.loop.Post(f.ready)
}

func (f *flow) answer(b *udp.Batch) {
	f.touch(time.Now(), true)
	f.release()
	for from, to := 0, b.Len(); from < to; {
		n, err := f.datagrams.socket.Send(b, from, to, f.peer)
		if err != nil {
			f.route.datagrams.drop(congested, 1)
			from++
			continue
		}
		f.route.datagrams.out.Add(uint64(n))
		f.session.upstream.counters.Out.Add(b.Size(from, from+n))
		from += n
	}
}

// barred tells that the server's address may be somebody else's by now.
func (f *flow) barred() bool {
	return f.session.upstream != nil && f.session.upstream.standing.Load() == barred
}

// attach gives the flow to a container. Without one it returns what closes when there may be one, nil where the route has none to wait for.
func (f *flow) attach() (attached bool, changed <-chan struct{}) {
	for {
		a, changed := f.route.pick(f.session, nil)
		if a.upstream == nil {
			return false, changed
		}
		socket, err := udp.Dial(a.addr)
		if err == nil {
			err = f.watch(socket)
		}
		if err = f.route.attached(a, f.session, err); err == nil {
			return true, nil
		}
		f.unwatch()
		if isExhaustion(err) {
			return false, changed
		}
	}
}

// watch makes a socket the flow's.
func (f *flow) watch(socket *udp.Socket) error {
	place, err := f.datagrams.loop.Watch(socket.FD(), f.ready)
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	f.socket, f.place = socket, place
	return nil
}

// unwatch closes the flow's socket if there is one. Neither call can fail of a descriptor that is open.
func (f *flow) unwatch() {
	if f.socket != nil {
		_ = f.datagrams.loop.Forget(f.socket.FD(), f.place)
		_ = f.socket.Close()
		f.socket = nil
	}
}

// detach takes the flow from its container.
func (f *flow) detach() {
	f.unwatch()
	if f.session.upstream != nil {
		f.route.detached(f.session)
	}
}

// leave is detach of a server that the client's last datagrams may have got lost with: the next one gets them.
func (f *flow) leave() {
	f.detach()
	if len(f.held) == 0 {
		return
	}
	if attached, changed := f.attach(); attached {
		f.flush()
	} else {
		f.wait(changed)
	}
}

// refused is detach of a container that does not take the client's datagrams.
func (f *flow) refused() {
	f.route.failedToServe(f.session.upstream)
	f.detach()
}

// hold has datagrams wait until there is a container.
func (f *flow) hold(b *udp.Batch, from, to int, changed <-chan struct{}) {
	f.keep(b, from, to)
	f.wait(changed)
}

// wait has the flow wait for a container, until changed is closed or the time is over.
func (f *flow) wait(changed <-chan struct{}) {
	d := f.datagrams
	if f.route.terms().hold <= 0 || changed == nil {
		f.route.unserved.Add(1)
		f.route.datagrams.drop(unserved, len(f.release()))
		d.end(f)
		return
	}
	if !d.waiting[f] {
		d.waiting[f], f.heldSince = true, f.last
		f.route.held.Add(1)
	}
	d.await(changed)
}

// keep keeps copies of datagrams, as many as there is room for.
func (f *flow) keep(b *udp.Batch, from, to int) {
	size := 0
	for _, datagram := range f.held {
		size += len(datagram)
	}
	for i := from; i < to; i++ {
		datagram := b.Datagram(i)
		if size += len(datagram); len(f.held) == heldDatagrams || size > heldBytes || f.datagrams.heldBytes+len(datagram) > heldAtOnce {
			if f.socket == nil {
				f.route.datagrams.drop(unserved, to-i)
			}
			return
		}
		f.datagrams.heldBytes += len(datagram)
		f.held = append(f.held, slices.Clone(datagram))
	}
}

// release takes the datagrams that wait.
func (f *flow) release() [][]byte {
	d := f.datagrams
	if d.waiting[f] {
		delete(d.waiting, f)
		f.route.held.Add(-1)
	}
	held := f.held
	for _, datagram := range held {
		d.heldBytes -= len(datagram)
	}
	f.held = nil
	return held
}

// flush sends the datagrams that wait. One that can't be sent is lost as on any network.
func (f *flow) flush() {
	for _, datagram := range f.release() {
		if f.socket == nil || f.socket.SendOne(datagram) != nil {
			f.route.datagrams.drop(congested, 1)
			continue
		}
		f.session.upstream.counters.In.Add(uint64(len(datagram)))
	}
}

// grown tells that somebody talks there.
func (f *flow) grown() bool { return f.turns >= grownAfter }

// touch notes a datagram.
func (f *flow) touch(now time.Time, answer bool) {
	turns := f.turns
	if f.answered && !answer {
		turns++
	}
	f.last, f.answered = now, answer
	f.turn(turns)
}

// turn makes it the last one to be idle, after so many turns.
func (f *flow) turn(turns int) {
	all, own := f.datagrams.ages, f.source.ages
	if (turns >= grownAfter) == f.grown() {
		f.turns = turns
		all.of(f).MoveToBack(f.age)
		own.of(f).MoveToBack(f.ageOfSource)
		return
	}
	all.of(f).Remove(f.age)
	own.of(f).Remove(f.ageOfSource)
	f.turns = turns
	f.age, f.ageOfSource = all.of(f).PushBack(f), own.of(f).PushBack(f)
}

// Reset implements [relay]: the time of its container is over.
func (f *flow) Reset(then func(reset bool)) {
	f.datagrams.loop.Post(func() {
		// One that is being handed over is the successor's to cut.
		is := f.datagrams.flows[f.key] == f && f.socket != nil && !f.datagrams.paused
		if is {
			f.datagrams.end(f)
		}
		if then != nil {
			then(is)
		}
	})
}

// attached ends an attempt to give a flow to a server.
func (r *route) attached(a attempt, s *session, err error) error {
	u := a.upstream
	r.mu.Lock()
	defer u.dials.Done()
	defer r.mu.Unlock()
	u.dialing--
	if err == nil && r.isLate(u) {
		err = context.Canceled
	}
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			r.fail(u, err)
		}
		r.tidy(u)
		return err
	}
	r.mark(u, true)
	r.seat(u, s)
	return nil
}

// seat counts a session on a server. The mutex is held.
func (r *route) seat(u *upstream, s *session) {
	s.upstream = u
	u.sessions[s] = struct{}{}
	u.total.Add(1)
	if !u.retiredAt.IsZero() {
		u.sessionsAtRetire++
	}
}

// fail notes what an attempt to reach a server has failed for. The mutex is held.
func (r *route) fail(u *upstream, err error) {
	u.failed.Add(1)
	switch {
	case isExhaustion(err):
		r.exhaustion.report(r.app, r.listen, err)
	case u.retiredAt.IsZero():
		r.mark(u, false)
	}
}

// failedToServe notes that a server does not take datagrams.
func (r *route) failedToServe(u *upstream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail(u, unix.ECONNREFUSED)
}

// detached forgets a flow that has left its server.
func (r *route) detached(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(s.upstream.sessions, s)
	r.tidy(s.upstream)
	s.upstream = nil
}

// bar has flows leave all former servers but those that the spec vouches for. The mutex is held.
func (r *route) bar() {
	for _, u := range r.current {
		u.standing.Store(serving)
	}
	for _, u := range r.retired {
		standing := barred
		if slices.ContainsFunc(r.spec.Former, u.stays) {
			standing = former
		}
		u.standing.Store(standing)
	}
}

// stays tells whether s, a server that a table vouches for, is this one.
func (u *upstream) stays(s deploy.Server) bool {
	return u.addr == s.Addr && (s.Container == "" || u.container == s.Container)
}
