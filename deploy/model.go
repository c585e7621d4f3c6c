package deploy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"dokku-expose/portsfile"
)

// Proto is a frontend's protocol.
type Proto = portsfile.Proto

const (
	TCP = portsfile.TCP
	UDP = portsfile.UDP
)

// Frontend is a public address: where clients connect to on the host. It can be bound once.
type Frontend struct {
	Proto Proto
	// IP is the address to bind. The zero Addr stands for every address of the host, IPv4 and IPv6.
	IP netip.Addr
	// Port is the public port, 1 to 65535.
	Port uint16
}

// FrontendAt is the TCP frontend at addr.
func FrontendAt(addr netip.AddrPort) Frontend { return Frontend{IP: addr.Addr(), Port: addr.Port()} }

// String returns the address as a PORTS file writes it: "25", "127.0.0.1:5432", "[::1]:5432", "53/udp".
func (f Frontend) String() string {
	text := strconv.Itoa(int(f.Port))
	if f.IP.IsValid() {
		text = netip.AddrPortFrom(f.IP, f.Port).String()
	}
	if f.Proto == UDP {
		text += portsfile.UDPSuffix
	}
	return text
}

// Key is what a route is known by: those clients of a frontend that ask for one name. Several routes, also of several apps, share a
// frontend by their names.
type Key struct {
	// Proto, IP and Port are the frontend's.
	Proto Proto
	IP    netip.Addr
	Port  uint16
	// ServerName is what TLS calls a host: "mail.example.com", or "*.example.com" for any one label. "" is what no other name takes.
	ServerName string
}

// ServerNamesFor are the names whose route a client gets that asks for name: the first one of them that has any.
func ServerNamesFor(name string) [3]string { return [...]string{name, portsfile.Wildcard(name), ""} }

// KeyAt is the key of all TCP clients at addr.
func KeyAt(addr netip.AddrPort) Key { return Key{IP: addr.Addr(), Port: addr.Port()} }

// Frontend is where the clients connect to.
func (k Key) Frontend() Frontend { return Frontend{k.Proto, k.IP, k.Port} }

// String returns the frontend, with the name if there is one: "25", "443@mail.example.com".
func (k Key) String() string {
	text := k.Frontend().String()
	if k.ServerName != "" {
		text += portsfile.HostSeparator + k.ServerName
	}
	return text
}

// MarshalText implements [encoding.TextMarshaler]: see [Key.String].
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Key) UnmarshalText(text []byte) error {
	bind, found := "", false
	port, name, named := strings.Cut(string(text), portsfile.HostSeparator)
	if tcp, udp := strings.CutSuffix(port, portsfile.UDPSuffix); udp {
		k.Proto, port = UDP, tcp
	}
	if i := strings.LastIndexByte(port, ':'); i >= 0 {
		bind, port, found = port[:i], port[i+1:], true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err == nil && found {
		k.IP, err = netip.ParseAddr(strings.Trim(bind, "[]"))
	}
	if err == nil && named {
		if k.ServerName, err = portsfile.ParseServerName(name); k.ServerName != name {
			err = cmp.Or(err, fmt.Errorf("%q is not in canonical form", name))
		}
	}
	k.Port = uint16(n)
	return err
}

// UnmarshalJSON implements [json.Unmarshaler]. A daemon of version 1 of the control protocol, which is taken over from, has an object
// there.
func (k *Key) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte("{")) {
		var former struct {
			IP   netip.Addr
			Port uint16
		}
		err := json.Unmarshal(text, &former)
		k.IP, k.Port = former.IP, former.Port
		return err
	}
	var word string
	if err := json.Unmarshal(text, &word); err != nil {
		return err
	}
	return k.UnmarshalText([]byte(word))
}

// Overlaps tells whether the two can't be bound side by side: the same port, and addresses of which one covers the other.
func (f Frontend) Overlaps(o Frontend) bool {
	if f.Proto != o.Proto || f.Port != o.Port {
		return false
	}
	return covers(f.IP, o.IP) || covers(o.IP, f.IP)
}

// covers tells whether binding a takes b too: every address covers all, 0.0.0.0 covers IPv4 and :: covers IPv6 (engines
// bind it for IPv6 only).
func covers(a, b netip.Addr) bool {
	switch {
	case !a.IsValid() || a == b:
		return true
	case a.IsUnspecified() && b.IsValid():
		return a.Is4() == b.Is4()
	}
	return false
}

// Compare orders by port, then address, every address first, then protocol.
func (f Frontend) Compare(o Frontend) int {
	return cmp.Or(cmp.Compare(f.Port, o.Port), f.IP.Compare(o.IP), cmp.Compare(f.Proto, o.Proto))
}

// Compare orders by frontend, then name.
func (k Key) Compare(o Key) int {
	return cmp.Or(k.Frontend().Compare(o.Frontend()), strings.Compare(k.ServerName, o.ServerName))
}

// Server is one container behind a route.
type Server struct {
	// Container is the container's full id.
	Container string `json:",omitzero"`
	// Dyno is Dokku's name for its place in the app: "web.1".
	Dyno string `json:",omitzero"`
	// Addr is where the host reaches the container's private port.
	Addr netip.AddrPort `json:",omitzero"`
	// Published tells that Addr is a port of this host that Docker publishes, see [Target].
	Published bool `json:",omitzero"`
	// Proven tells that Addr accepted a connection in this reconcile, after Docker said whose it is. A server that the engine sends
	// connections to already need not be proven to go on. One that it does not gets none before a table proves it, unless checks
	// are off: the engine's own checks take servers out of service, and bring none back.
	Proven bool `json:",omitzero"`
}

// Route is one public address and the containers that serve it now.
type Route struct {
	App     string
	Process string
	// Key has the name in JSON that version 1 of the control protocol has for it.
	Key Key `json:"Listen"`
	// Servers get the new connections, in the order of their dynos. None: connections are held, then closed.
	Servers []Server
	// Former get nothing new. Sessions of UDP may stay on them: these are the app's still, as nothing that comes back on a session can tell.
	Former []Server `json:",omitzero"`
	// Hold is how long a new connection waits while no server is up; 0 closes it at once.
	Hold time.Duration
	// HealthCheck is the interval of the connect check on running servers; 0 turns it off. It is 0 where Options.Check is off.
	HealthCheck time.Duration
	// CutOld is how long connections may stay on a server that no longer serves the route; 0 keeps them until they end.
	CutOld time.Duration
	// HalfClosed is how long a connection of which one side has ended may be without any data; 0 is [DefaultHalfClosed], so that an
	// older daemon takes the table, and a negative time is no limit.
	HalfClosed time.Duration `json:",omitzero"`
	// Options say how the connections are treated. The zero value of each asks for nothing in particular; Allow can ask for
	// nobody to be let in.
	Options Options `json:",omitzero"`
	// Certificate is for Options.TLS. None there leaves the route with the one that it has.
	Certificate Certificate `json:",omitzero"`
	// ClientCA are the authorities of which a client needs a certificate where TLS ends here, in PEM; "" asks clients for none.
	ClientCA string `json:",omitzero"`
}

// DefaultHalfClosed is how long a half-closed connection may be without any data where a route asks for nothing else.
const DefaultHalfClosed = time.Minute

// HalfClosedTimeout is how long a half-closed connection of the route may be without any data; 0 is no limit.
func (r Route) HalfClosedTimeout() time.Duration {
	return max(cmp.Or(r.HalfClosed, DefaultHalfClosed), 0)
}

// leadsTo tells whether a server of the route has the address.
func (r Route) leadsTo(addr netip.AddrPort) bool { return hasAddr(r.Servers, addr) }

func hasAddr(servers []Server, addr netip.AddrPort) bool {
	return slices.ContainsFunc(servers, func(s Server) bool { return s.Addr == addr })
}

// Table is all routes of the host, sorted by app and listen address, no two of which overlap.
type Table struct {
	Routes []Route
	// TotalConnections is how many connections all routes together may have at once, the next ones wait to be accepted; 0 is as
	// many as can be had. It is for engines that have no other configuration than the table.
	TotalConnections int `json:",omitzero"`
}

func (t Table) sort() {
	slices.SortFunc(t.Routes, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.App, b.App), a.Key.Compare(b.Key))
	})
}

// lacks tells whether something is served that the table does not have.
func (t Table) lacks(serving map[Key]RouteState) bool {
	if len(serving) > len(t.Routes) {
		return true
	}
	has := make(map[Key]Route, len(t.Routes))
	for _, r := range t.Routes {
		has[r.Key] = r
	}
	for listen, service := range serving {
		r, ok := has[listen]
		if !ok || r.App != service.App {
			return true
		}
		if slices.ContainsFunc(service.All(), func(addr netip.AddrPort) bool { return !r.leadsTo(addr) }) ||
			slices.ContainsFunc(service.Former(), func(addr netip.AddrPort) bool { return !r.leadsTo(addr) && !hasAddr(r.Former, addr) }) {
			return true
		}
	}
	return false
}

// RouteError is why one route could not be made real. Other routes are not touched by it.
type RouteError struct {
	App string
	Key Key
	// Err says what is wrong and what to do about it.
	Err error
}

func (e *RouteError) Error() string {
	return fmt.Sprintf("%s: public port %s: %v", e.App, e.Key, e.Err)
}

func (e *RouteError) Unwrap() error { return e.Err }
