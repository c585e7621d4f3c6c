package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"dokku-expose/bench/measure"
)

// privatePorts are what every app listens on.
var privatePorts = []uint16{5025, 5026}

// containerAddr is the address of the nth container, counted from 0, in Docker's own network.
func containerAddr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 17, byte(1 + n/250), byte(1 + n%250)})
}

// bridge is a network namespace as Docker leaves one: the bridge docker0 with a port for each container. It is the one that the
// process is in.
type bridge struct {
	ports int
}

// setUp makes the bridge. Its whole subnet is this machine's own, so that one program can answer at the addresses of all containers.
func (b *bridge) setUp() error {
	return measure.IP(`link set lo up
link add docker0 type bridge
address add 172.17.0.1/16 dev docker0
link set docker0 up
route add local 172.17.0.0/16 dev lo
`)
}

// grow gives the bridge as many ports as there are containers: whoever lists this host's interfaces sees them all.
func (b *bridge) grow(containers int) error {
	var batch strings.Builder
	for ; b.ports < containers; b.ports += 2 {
		// Both ends are ports of the bridge, and stay down.
		fmt.Fprintf(&batch, "link add veth%d type veth peer name veth%d\n", b.ports, b.ports+1)
		for end := b.ports; end < b.ports+2; end++ {
			fmt.Fprintf(&batch, "link set veth%d master docker0\n", end)
		}
	}
	return measure.IP(batch.String())
}

// serveApps answers at the private ports of all containers: it says which one it is, in a line, and sends back what it gets.
func serveApps() (stop func(), err error) {
	var listeners []net.Listener
	stop = func() {
		for _, ln := range listeners {
			_ = ln.Close()
		}
	}
	for _, port := range privatePorts {
		ln, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			stop()
			return nil, err
		}
		listeners = append(listeners, ln)
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					address, _, _ := net.SplitHostPort(conn.LocalAddr().String())
					if _, err := io.WriteString(conn, address+"\n"); err != nil {
						return // a health check
					}
					_, _ = io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn})
				}()
			}
		}()
	}
	return stop, nil
}
