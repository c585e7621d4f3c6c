package proxy

import (
	"container/list"
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/proxy/tcp"
	"dokku-expose/proxy/udp"
)

const (
	// batchesAtOnce is how many batches of datagrams a socket has moved before others have their turn.
	batchesAtOnce = 8
	// maxSweep is the longest time between two looks for flows that are idle.
	maxSweep = 5 * time.Second
	// heldDatagrams and heldBytes are what a flow may have waiting for a container, heldAtOnce what a public address may.
	heldDatagrams, heldBytes = 8, 16 << 10
	heldAtOnce               = 4 << 20
	// grownAfter is how often a client has to send something after an answer for its flow to count as a talk.
	grownAfter = 4
	// restIdle is how long such a flow is idle before it makes room for another one.
	restIdle = 10 * time.Second
)

// datagrams serves a public address of UDP: a flow for each client. All of it happens in one loop, so that nothing here needs a lock.
type datagrams struct {
	listener *listener
	socket   *udp.Socket
	loop     tcp.Loop
	place    tcp.Place
	budget   *flowBudget

	flows   map[flowKey]*flow
	ages    ages
	sources map[[16]byte]*flowSource
	// waiting are flows without a container, heldBytes what they have waiting. awaits tells that somebody looks for one.
	waiting   map[*flow]bool
	heldBytes int
	awaits    bool
	// serves tells that it has begun to receive. paused tells that a successor is about to take over, closed that nothing is served any more.
	serves, paused, closed bool
	sweeps                 bool
}

// flowSource is what one source has of a public address, see [sourceOf].
type flowSource struct {
	flows int
	ages  ages
}

// ages are flows in the order of their last datagrams, the idlest first. Young ones make room for others: nothing shows yet that somebody
// talks there, who is not just the sender of a question, or of a flood.
type ages struct{ young, grown *list.List }

func newAges() ages { return ages{list.New(), list.New()} }

// idlest is the flow that is to make room, nil for none.
func (a ages) idlest() *flow {
	if e := a.young.Front(); e != nil {
		return e.Value.(*flow)
	}
	if e := a.grown.Front(); e != nil && time.Since(e.Value.(*flow).last) >= restIdle {
		return e.Value.(*flow)
	}
	return nil
}

// of is the list for a flow.
func (a ages) of(f *flow) *list.List {
	if f.grown() {
		return a.grown
	}
	return a.young
}

func newDatagrams(l *listener, socket *udp.Socket, budget *flowBudget) (*datagrams, error) {
	loop, err := tcp.AnyLoop()
	if err != nil {
		return nil, err
	}
	d := &datagrams{
		listener: l, socket: socket, loop: loop, budget: budget, flows: make(map[flowKey]*flow), ages: newAges(),
		sources: make(map[[16]byte]*flowSource), waiting: make(map[*flow]bool),
	}
	if loop.Do(func() { d.place, err = loop.Watch(socket.FD(), d.ready) }); err != nil {
		return nil, err
	}
	return d, nil
}

// serve begins to receive datagrams, and does not wait.
func (d *datagrams) serve() {
	d.loop.Post(func() {
		d.serves = true
		d.ready()
	})
}

// ready receives what clients have sent.
func (d *datagrams) ready() {
	if !d.serves || d.paused || d.closed {
		return
	}
	b := udp.TakeBatch()
	defer b.Release()
	for range batchesAtOnce {
		// An error other than EAGAIN is about memory: the kernel drops what it has no room for, and tells of what comes next.
		if d.socket.Receive(b) != nil {
			return
		}
		d.receive(b)
		if b.Len() < udp.BatchSize {
			return
		}
	}
	d.loop.Post(d.ready)
}

// receive gives each run of datagrams of one client to its flow.
func (d *datagrams) receive(b *udp.Batch) {
	r, now := d.listener.names.Load().first, time.Now()
	key := keyOf(b, 0)
	for i, n := 0, b.Len(); i < n; {
		next, j := key, i+1
		for ; j < n; j++ {
			if next = keyOf(b, j); next != key {
				break
			}
		}
		if f := d.flow(r, key, j-i, now); f != nil {
			f.receive(b, i, j, now)
		}
		key, i = next, j
	}
}

// flow is the one of a client, a new one if need be. It is nil for a client that has none and gets none, whose datagrams are dropped.
func (d *datagrams) flow(r *route, key flowKey, datagrams int, now time.Time) *flow {
	f := d.flows[key]
	if f != nil && f.route != r {
		// The address has another app's route since.
		d.end(f)
		f = nil
	}
	if f != nil {
		return f
	}
	source := key.client.Addr()
	a := r.admission.Load()
	switch {
	case a != nil && !a.allows(source):
		r.datagrams.drop(notAllowed, datagrams)
	case a != nil && !a.counts(source):
		r.datagrams.drop(tooOften, datagrams)
	case !d.room(r, source):
		r.datagrams.drop(tooMany, datagrams)
	default:
		f = d.begin(r, key, now)
	}
	return f
}

// room makes room for one more flow of a source: where there is none, another one has to go, of the same source or the same port.
func (d *datagrams) room(r *route, source netip.Addr) bool {
	of := d.sources[sourceOf(source)]
	if of != nil && of.flows >= d.budget.max/2 && !d.evict(of.ages) {
		return false
	}
	if most := r.terms().most; most > 0 && len(d.flows) >= most && !d.evict(d.ages) {
		return false
	}
	return d.budget.take(len(d.flows)) || d.evict(d.ages) && d.budget.take(len(d.flows))
}

func (d *datagrams) evict(of ages) bool {
	f := of.idlest()
	if f != nil {
		d.end(f)
	}
	return f != nil
}

// begin makes a flow, for which there is room.
func (d *datagrams) begin(r *route, key flowKey, now time.Time) *flow {
	f := &flow{datagrams: d, route: r, key: key, peer: d.socket.NewPeer(key.client, key.local), last: now}
	f.session = &session{listener: d.listener, ends: &ends{key.client, netip.AddrPortFrom(key.local, d.listener.listen.Port)}, relay: f}
	source := sourceOf(key.client.Addr())
	of := d.sources[source]
	if of == nil {
		of = &flowSource{ages: newAges()}
		d.sources[source] = of
	}
	of.flows++
	f.source, f.age, f.ageOfSource = of, d.ages.young.PushBack(f), of.ages.young.PushBack(f)
	d.flows[key] = f
	d.sweepLater()
	return f
}

// end forgets a flow. Whatever its client sends next begins another one.
func (d *datagrams) end(f *flow) {
	waited := d.waiting[f]
	if held := f.release(); waited {
		f.route.datagrams.drop(unserved, len(held))
	}
	f.detach()
	d.ages.of(f).Remove(f.age)
	f.source.ages.of(f).Remove(f.ageOfSource)
	delete(d.flows, f.key)
	if f.source.flows--; f.source.flows == 0 {
		delete(d.sources, sourceOf(f.key.client.Addr()))
	}
	d.budget.give()
}

// settle ends what the routes in force do not vouch for: flows of another route, and those on servers that may be somebody else's by now.
func (d *datagrams) settle() {
	d.loop.Do(func() {
		r := d.listener.names.Load().first
		for _, f := range d.flows {
			switch {
			case f.route != r:
				d.end(f)
			case f.barred():
				f.leave()
			}
		}
		d.retry()
	})
}

// sweepLater has idle flows looked for.
func (d *datagrams) sweepLater() {
	if d.sweeps || len(d.flows) == 0 || d.closed {
		return
	}
	d.sweeps = true
	time.AfterFunc(min(maxSweep, d.terms().idle/8), func() {
		d.loop.Post(func() {
			d.sweeps = false
			now, idle := time.Now(), d.terms().idle
			for _, f := range d.flows {
				if !d.paused && !d.waiting[f] && now.Sub(f.last) >= idle {
					d.end(f)
				}
			}
			d.sweepLater()
		})
	})
}

// await has the waiting flows look for a container when one may be there, and again and again where only an attempt can tell.
func (d *datagrams) await(changed <-chan struct{}) {
	if d.awaits || len(d.waiting) == 0 || d.closed {
		return
	}
	d.awaits = true
	go func() {
		select {
		case <-changed:
		case <-time.After(retryInterval):
		}
		d.loop.Post(func() {
			d.awaits = false
			d.retry()
		})
	}()
}

// retry gives the waiting flows to containers, and ends those that have waited for too long.
func (d *datagrams) retry() {
	if d.paused {
		return
	}
	now, hold, none := time.Now(), d.terms().hold, false
	var changed <-chan struct{}
	for f := range d.waiting {
		if !none {
			attached, c := f.attach()
			if attached {
				f.flush()
				continue
			}
			none, changed = true, c
		}
		if now.Sub(f.heldSince) >= hold || changed == nil {
			f.route.unserved.Add(1)
			d.end(f)
		}
	}
	d.await(changed)
}

// pause leaves everything as it is, for a successor to take it over. It returns the flows that have a container.
func (d *datagrams) pause() (flows []*flow) {
	d.loop.Do(func() {
		d.paused = true
		for _, f := range d.flows {
			if f.socket != nil && !f.barred() {
				flows = append(flows, f)
			}
		}
	})
	return flows
}

// resume goes on after a pause.
func (d *datagrams) resume() {
	d.loop.Do(func() {
		d.paused = false
		d.ready()
		for _, f := range d.flows {
			f.ready()
		}
		d.retry()
	})
}

// SyscallConn implements [syscall.Conn], see [udp.Socket.SyscallConn].
func (d *datagrams) SyscallConn() (syscall.RawConn, error) { return d.socket.SyscallConn() }

// Close stops receiving, and ends all flows.
func (d *datagrams) Close() (err error) {
	d.loop.Do(func() {
		d.closed = true
		for _, f := range d.flows {
			d.end(f)
		}
		err = errors.Join(d.loop.Forget(d.socket.FD(), d.place), d.socket.Close())
	})
	return err
}

// flowBudget bounds the flows of all public addresses together.
type flowBudget struct {
	mu         sync.Mutex
	max, total int
}

// maxFlows is the most that there can be: each has a local port towards its container, of which a host has 28,000 for UDP in all.
const maxFlows = 16_000

// newFlowBudget leaves most files to connections.
func newFlowBudget(files int) *flowBudget { return &flowBudget{max: min(maxFlows, files/8)} }

// take counts one more flow of a public address that has so many. It returns false when that may have no more, since others need the rest.
func (b *flowBudget) take(has int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if has >= greed*(b.max-b.total) {
		return false
	}
	b.total++
	return true
}

func (b *flowBudget) give() {
	b.mu.Lock()
	b.total--
	b.mu.Unlock()
}

// defaultIdle is how long a flow may be without a datagram where a route asks for nothing else.
const defaultIdle = time.Minute

// flowTerms are a route's for its flows: how long one is held, how long it may be idle, how many there may be (0 for no limit).
type flowTerms struct {
	hold, idle time.Duration
	most       int
}

func (d *datagrams) terms() flowTerms { return d.listener.names.Load().first.terms() }

func (r *route) terms() flowTerms {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := flowTerms{hold: r.spec.Hold, idle: r.spec.Options.IdleTimeout, most: r.spec.Options.MaxConnections}
	if t.idle == 0 {
		t.idle = defaultIdle
	}
	return t
}

// The reasons why datagrams are dropped.
type dropReason int

const (
	// notAllowed and tooOften are the options allow and rate.
	notAllowed dropReason = iota
	tooOften
	// tooMany is max-connections, or the limit of all.
	tooMany
	// unserved is a hold that found no container, or had no room.
	unserved
	// congested is a full queue of the kernel's, or a datagram that is too long for the network.
	congested
	dropReasons
)

var reasonWords = [dropReasons]string{"allow", "rate", "sessions", "no container", "congestion"}

// refusal tells that the other end of a socket is not there, as far as the kernel knows.
func refusal(err error) bool {
	return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EMSGSIZE)
}

// observeDatagrams is what became of the route's datagrams, nil for TCP.
func (r *route) observeDatagrams() *deploy.Datagrams {
	if r.listen.Proto != deploy.UDP {
		return nil
	}
	c := &deploy.Datagrams{In: r.datagrams.in.Load(), Out: r.datagrams.out.Load(), Dropped: make(map[string]uint64)}
	for reason, word := range reasonWords {
		c.Dropped[word] = r.datagrams.dropped[reason].Load()
	}
	return c
}
