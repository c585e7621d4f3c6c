package portsfile

import (
	"bytes"
	"iter"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultProcess is the process type of a mapping that names none.
const DefaultProcess = "web"

// Proto is a transport protocol.
type Proto uint8

const (
	TCP Proto = iota
	UDP
)

// UDPSuffix follows the ports of UDP in text.
const UDPSuffix = "/udp"

// String returns "tcp" or "udp".
func (p Proto) String() string {
	if p == UDP {
		return "udp"
	}
	return "tcp"
}

// suffix follows ports of the protocol in text.
func (p Proto) suffix() string {
	if p == UDP {
		return UDPSuffix
	}
	return ""
}

// Range is a run of ports, both ends included. A single port is a range whose ends are equal.
type Range struct {
	First, Last uint16
}

// Len returns how many ports the range has.
func (r Range) Len() int { return int(r.Last) - int(r.First) + 1 }

// Contains tells whether port is one of the range.
func (r Range) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// String returns "25" or "6000-6010".
func (r Range) String() string {
	first := strconv.Itoa(int(r.First))
	if r.First == r.Last {
		return first
	}
	return first + "-" + strconv.Itoa(int(r.Last))
}

// Mapping is one line of a PORTS file: public ports and the private ports that they lead to. Two mappings are equal (==)
// if and only if their canonical lines are.
type Mapping[O Options[O]] struct {
	// Proto is the protocol of both sides.
	Proto Proto
	// Bind is the host's address to listen on. The zero Addr stands for every address, IPv4 and IPv6; 0.0.0.0 stands for
	// every IPv4 address only and :: for every IPv6 address only. It has no zone and is never an IPv4 address in IPv6 form.
	Bind netip.Addr
	// Public are the ports that clients connect to.
	Public Range
	// Private are the ports that the app listens on inside its container, as many as Public.
	Private Range
	// Process is the process type whose containers serve the ports: 1 to 63 letters, digits, "-" and "_".
	Process string
	// Hosts are the server names of the clients that it is for; none: those that ask for no other mapping's.
	Hosts ServerNames
	// Options are those that the line gives.
	Options O
}

// Names are the server names, "" for what no other mapping has.
func (m Mapping[O]) Names() []string {
	if names := m.Hosts.List(); len(names) > 0 {
		return names
	}
	return []string{""}
}

// String returns the mapping's canonical line, without a line end. Options appear when they are given, process when it is
// not the default.
func (m Mapping[O]) String() string {
	line := m.public() + ":" + m.Private.String() + m.Proto.suffix()
	if m.Process != DefaultProcess {
		line += " " + processKey + "=" + m.Process
	}
	if hosts := m.Hosts.String(); hosts != "" {
		line += " " + hostKey + "=" + hosts
	}
	return strings.TrimSuffix(line+" "+m.Options.String(), " ")
}

// Listen returns the public half of the canonical line, "25", "[::1]:6000-6010" or "53/udp".
func (m Mapping[O]) Listen() string { return m.public() + m.Proto.suffix() }

func (m Mapping[O]) public() string {
	switch {
	case !m.Bind.IsValid():
		return m.Public.String()
	case m.Bind.Is4():
		return m.Bind.String() + ":" + m.Public.String()
	default:
		return "[" + m.Bind.String() + "]:" + m.Public.String()
	}
}

// HostSeparator stands between public ports and server names in text.
const HostSeparator = "@"

// Clients returns whom the mapping is for: the public half, and the server names if there are any, "443@a.example.com,b.example.com".
func (m Mapping[O]) Clients() string {
	if m.Hosts == (ServerNames{}) {
		return m.Listen()
	}
	return m.Listen() + HostSeparator + m.Hosts.String()
}

// Ports returns each public port with the private port that it leads to, in ascending order.
func (m Mapping[O]) Ports() iter.Seq2[uint16, uint16] {
	return func(yield func(public, private uint16) bool) {
		for i := range m.Public.Len() {
			if !yield(m.Public.First+uint16(i), m.Private.First+uint16(i)) {
				return
			}
		}
	}
}

// Entry is a mapping and where it was read.
type Entry[O Options[O]] struct {
	Mapping[O]
	// Line counts from 1.
	Line int
}

// Format returns the file that holds the mappings in the order given, one canonical line each. What [Language.Parse] returned is
// read back the same.
func Format[O Options[O]](ms []Mapping[O]) []byte {
	var b bytes.Buffer
	for _, m := range ms {
		b.WriteString(m.String())
		b.WriteByte('\n')
	}
	return b.Bytes()
}
