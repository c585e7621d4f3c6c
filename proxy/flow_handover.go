package proxy

import (
	"net/netip"
	"slices"
	"syscall"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/proxy/udp"
)

// seatFor is the server that a flow of another daemon was on, a former one if need be; nil where the table does not vouch for it.
func (r *route) seatFor(s deploy.Server) *upstream {
	for _, u := range slices.Concat(r.current, r.retired) {
		if u.stays(s) {
			return u
		}
	}
	u := newUpstream(s)
	u.retire()
	if !slices.ContainsFunc(r.spec.Former, u.stays) {
		return nil
	}
	r.retired = append(r.retired, u)
	r.scheduleCuts(r.spec.CutOld)
	return u
}

// Flow is a flow as a server hands it over, see [Server.HandOver].
type Flow struct {
	// Route is the place of its route in the table.
	Route  int            `json:"route"`
	Client netip.AddrPort `json:"client"`
	Local  netip.Addr     `json:"local"`
	// Server is where the socket leads to.
	Server deploy.Server `json:"server"`
	// Turns are how often the client has sent something after an answer.
	Turns int `json:"turns,omitzero"`

	socket *udp.Socket
}

// SyscallConn implements [syscall.Conn].
func (f Flow) SyscallConn() (syscall.RawConn, error) { return f.socket.SyscallConn() }

// handed is the flow for a successor. The server is paused.
func (f *flow) handed(route int) Flow {
	u := f.session.upstream
	return Flow{
		Route: route, Client: f.key.client, Local: f.key.local, Server: deploy.Server{Container: u.container, Dyno: u.dyno, Addr: u.addr},
		Turns: f.turns, socket: f.socket,
	}
}

// adopt takes over a flow of another daemon. What can't be taken over begins anew with the client's next datagram.
func (d *datagrams) adopt(r *route, handed Flow, socket *udp.Socket) (err error) {
	d.loop.Do(func() {
		key := flowKey{handed.Client, handed.Local}
		if d.flows[key] != nil || !d.budget.take(len(d.flows)) {
			err = socket.Close()
			return
		}
		f := d.begin(r, key, time.Now())
		f.turn(handed.Turns)
		r.mu.Lock()
		u := r.seatFor(handed.Server)
		if u != nil {
			r.seat(u, f.session)
		}
		r.mu.Unlock()
		if u == nil {
			err = socket.Close()
			d.end(f)
			return
		}
		if err = f.watch(socket); err != nil {
			d.end(f)
		}
	})
	return err
}
