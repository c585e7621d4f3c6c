package deploy

import (
	"strings"
	"time"
)

// Options say how the connections of a route are treated. Zero fields are omitted from JSON, so an older daemon only rejects options
// in use. A new option is a field here, a row of the registry, a line in the table of the settings, and what each engine does about
// it; tests find what is missing.
type Options struct {
	// Allow are the networks whose clients may connect; others are closed at accept.
	Allow Networks `json:",omitzero"`
	// ProxyProtocol is the header that tells the app each client's address.
	ProxyProtocol ProxyProtocol `json:",omitzero"`
	// AcceptProxy are the upstream proxies whose PROXY header is read, and required. Its address is the client's from then on.
	AcceptProxy Networks `json:",omitzero"`
	// MaxConnections is how many connections there may be at once; the next ones wait to be accepted.
	MaxConnections int `json:",omitzero"`
	// Rate is how many new connections one source may make in [RatePeriod]; others are closed at accept. A source is an IPv4
	// address, or a /64 network of IPv6.
	Rate int `json:",omitzero"`
	// IdleTimeout is how long a connection may be without any data in either direction, in whole milliseconds.
	IdleTimeout time.Duration `json:",omitzero"`
	// Balance is how a container is chosen.
	Balance Balance `json:",omitzero"`
	// Check is how a container is asked whether it accepts connections.
	Check Check `json:",omitzero"`
	// TLS is what becomes of TLS that clients speak.
	TLS TLS `json:",omitzero"`
	// ALPN are the protocols that are chosen from where TLS ends here. A client that offers none of them goes on without one.
	ALPN ALPN `json:",omitzero"`
	// StartTLS is how clients ask for TLS before it begins.
	StartTLS StartTLS `json:",omitzero"`
}

// ProxyProtocol is a form of the PROXY protocol's header, or none.
type ProxyProtocol string

// The values of the option proxy-protocol.
const (
	NoProxyHeader ProxyProtocol = "off"
	// ProxyV1 is the form for humans, ProxyV2 the binary one.
	ProxyV1 ProxyProtocol = "v1"
	ProxyV2 ProxyProtocol = "v2"
)

// Balance is a way to choose one of several containers.
type Balance string

// The values of the option balance.
const (
	// LeastConn is the one with the fewest connections.
	LeastConn Balance = "leastconn"
	// RoundRobin is each in turn.
	RoundRobin Balance = "roundrobin"
	// BySource is the same one for the same source address, as long as the containers are the same.
	BySource Balance = "source"
)

// Check is a way to find out whether a container accepts connections, or none.
type Check string

// The values of the option check.
const (
	// ConnectCheck begins to connect, and ends that before the app could accept.
	ConnectCheck Check = "connect"
	// NoCheck leaves the port alone: what connects there is a client.
	NoCheck Check = "off"
)

// TLS is what an engine does about TLS.
type TLS string

// The values of the option tls.
const (
	// NoTLS passes on bytes, whatever they are.
	NoTLS TLS = "off"
	// TerminateTLS is TLS up to here, by the app's certificate: the app gets what was in it.
	TerminateTLS TLS = "terminate"
	// PassTLS passes TLS on as it is. Only the server name is read, where routes share a frontend.
	PassTLS TLS = "passthrough"
)

// StartTLS is a protocol in which clients ask for TLS, or none.
type StartTLS string

// The values of the option starttls.
const (
	// NoStartTLS has TLS begin at once.
	NoStartTLS StartTLS = "off"
	// PostgresStartTLS answers Postgres' SSLRequest. A client may begin with TLS all the same.
	PostgresStartTLS StartTLS = "postgres"
)

// ALPN are names of protocols inside of TLS (RFC 7301), each once, the best first, with commas between them: "imap,pop3".
type ALPN string

// NoALPN leaves the protocol unsaid.
const NoALPN ALPN = "none"

// Protocols returns the names, nil for none.
func (a ALPN) Protocols() []string {
	if a == "" || a == NoALPN {
		return nil
	}
	return strings.Split(string(a), ",")
}

const (
	// RatePeriod is the time that the option rate counts in.
	RatePeriod = 10 * time.Second
	// MaxRate and MaxMaxConnections are the most that these options can be.
	MaxRate           = 100_000
	MaxMaxConnections = 1_000_000
	// MaxProtocols is how many protocols the option alpn may name.
	MaxProtocols = 8
	// MinIdleTimeout and MaxIdleTimeout are what that option can be. Longer times than 24 days are too long for HAProxy's clock.
	MinIdleTimeout = time.Second
	MaxIdleTimeout = 24 * 24 * time.Hour
)
