package haproxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
)

// A worker that a reload has left to its last connections learns of no new server any more: HAProxy refuses `set server` in
// it. What such a worker holds would wait for nothing. So each worker holds connections at an address of its own, where
// nobody listens while it is the newest one; the workers after it do listen there. A held connection thus gets to the newest
// worker with its next try, within a second, and is held or served there like any other one, through both workers. It brings
// along the client's address and a token that says which route it belongs to.

const (
	// takeoverPort is one that hardly anybody wants for something else: IANA has given it to nobody.
	takeoverPort = 1028
	// generations is after how many reloads an address is used again, predecessors how many former workers are listened for:
	// more than there are reloads in the second between two tries, and few enough that no worker listens already where its
	// successor will hold.
	generations, predecessors = 32, 12
)

// generation tells the workers of successive reloads apart.
type generation int

// alone is the generation of a worker that takes nothing over, and from which nothing is.
const alone generation = -1

func (g generation) next() generation {
	if g == alone {
		return alone
	}
	return (g + 1) % generations
}

// mark makes the generation a part of a structure, and thereby of what a running worker says of itself.
func (g generation) mark(structure string) string {
	if g == alone {
		return structure
	}
	return fmt.Sprintf("%s.%d", structure, g)
}

func markedGeneration(structure string) generation {
	_, mark, ok := strings.Cut(structure, ".")
	n, err := strconv.Atoi(mark)
	if !ok || err != nil || n < 0 || n >= generations {
		return alone
	}
	return generation(n)
}

// generation is that of the running worker; else the first one, where workers can listen for held connections.
func (e *Engine) generation(live *snapshot) (generation, error) {
	if g := markedGeneration(live.structure); g != alone {
		return g, nil
	}
	sockets, err := e.listeners()
	if err != nil {
		return alone, fmt.Errorf("sockets of this host: %w", err)
	}
	for _, addr := range e.holdAddrs() {
		if e.taken(addr, sockets) {
			return alone, nil
		}
	}
	return 0, nil
}

// taken tells whether an address for held connections can't be bound.
func (e *Engine) taken(addr netip.AddrPort, sockets []listeners.Listener) bool {
	l := deploy.FrontendAt(addr)
	return holder(l, sockets, nil, listeners.TryBind(l)) != nil
}

// holdAddr is where a worker holds connections.
func (e *Engine) holdAddr(g generation) netip.AddrPort {
	if g == alone {
		return nowhere
	}
	// Another HAProxy of this kind on the same host has another socket, and so other addresses.
	sum := sha256.Sum256([]byte(e.cfg.StatsSocket))
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 64 + sum[0]%128, sum[1], 1 + byte(g)}), takeoverPort)
}

// holdAddrs are those of all generations.
func (e *Engine) holdAddrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for g := range generation(generations) {
		addrs = append(addrs, e.holdAddr(g))
	}
	return addrs
}

// takeover is where a worker listens for what former ones hold.
func (e *Engine) takeover(g generation) []netip.AddrPort {
	if g == alone {
		return nil
	}
	var addrs []netip.AddrPort
	for i := range generation(predecessors) {
		addrs = append(addrs, e.holdAddr((g+generations-1-i)%generations))
	}
	return addrs
}

// token is what a held connection of a proxy is known by. Others on this host can't guess it: who comes with it is believed
// whose connection it forwards.
func (e *Engine) token(proxy string) string {
	mac := hmac.New(sha256.New, []byte(e.cfg.StatsPassword))
	mac.Write([]byte(proxy))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
