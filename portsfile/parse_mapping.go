package portsfile

import (
	"net/netip"
	"strconv"
	"strings"
)

// parseMapping reads [BIND:]PUBLIC:PRIVATE[/PROTOCOL] into a mapping with default options.
func (p *parser[O]) parseMapping(t token) (m Mapping[O], ok bool) {
	m.Process = DefaultProcess
	if i := strings.LastIndexByte(t.text, '/'); i > strings.LastIndexByte(t.text, ':') {
		var suffix token
		if t, suffix = t.at(i); !p.parseProto(&m, suffix) {
			return m, false
		}
	}
	if strings.HasPrefix(t.text, "[") {
		i := strings.Index(t.text, "]:")
		if i < 0 {
			p.fail(t.column, `%s is not a mapping: expected an IPv6 bind address in brackets, then the ports, such as [::1]:5432:5432`,
				Quote(t.text))
			return m, false
		}
		bind, _ := t.at(i + 1)
		_, ports := t.at(i + len("]:"))
		return m, p.parseBoundPorts(&m, bind, ports)
	}
	switch strings.Count(t.text, ":") {
	case 0:
		p.fail(t.column, "%s is not a mapping: %s", Quote(t.text), expected)
		return m, false
	case 1:
		return m, p.parsePorts(&m, t)
	case 2:
		bind, ports, _ := t.cut(":")
		return m, p.parseBoundPorts(&m, bind, ports)
	default:
		head := t.text[:strings.LastIndex(t.text, ":")]
		if ip, err := netip.ParseAddr(head[:strings.LastIndex(head, ":")]); err == nil {
			p.fail(t.column, "an IPv6 bind address is written in brackets: expected [%s]:PUBLIC:PRIVATE", ip.WithZone(""))
		} else {
			p.fail(t.column, "%s has too many colons: %s; an IPv6 bind address is written in brackets", Quote(t.text), expected)
		}
		return m, false
	}
}

func (p *parser[O]) parseBoundPorts(m *Mapping[O], bind, ports token) bool {
	bindOK := p.parseBind(m, bind)
	portsOK := p.parsePorts(m, ports)
	return bindOK && portsOK
}

// parseBind reads an IPv4 address, or an IPv6 address in brackets.
func (p *parser[O]) parseBind(m *Mapping[O], t token) bool {
	text, bracketed := strings.CutPrefix(t.text, "[")
	if bracketed {
		text = strings.TrimSuffix(text, "]")
	}
	ip, err := netip.ParseAddr(text)
	switch {
	case text == "" || text == "*":
		p.fail(t.column, "no bind address: to listen on every address of the host write PUBLIC:PRIVATE only")
		return false
	case err != nil:
		p.fail(t.column, "%s is not an IP address: %s, without host names and protocols", Quote(text), expected)
		return false
	case ip.Zone() != "":
		p.fail(t.column, "bind address %s has a zone: expected an address without one, as %s", Quote(text), ip.WithZone(""))
		return false
	case bracketed && ip.Is4():
		p.fail(t.column, "an IPv4 bind address is written without brackets: expected %s:PUBLIC:PRIVATE", ip)
		return false
	}
	m.Bind = ip.Unmap()
	if kind := unusable(m.Bind); kind != "" {
		p.fail(t.column, "bind address %s is a %s address, where TCP can't listen: expected an address of the host", m.Bind, kind)
		return false
	}
	return true
}

// unusable names the kinds of address that no TCP client can reach a listener at. Linux refuses to bind all of them but the
// IPv4 ones, and a link-local address only works together with a zone.
func unusable(ip netip.Addr) string {
	switch {
	case ip.IsMulticast():
		return "multicast"
	case ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "broadcast"
	case ip.Is6() && ip.IsLinkLocalUnicast():
		return "link-local"
	}
	return ""
}

// parsePorts reads PUBLIC:PRIVATE.
func (p *parser[O]) parsePorts(m *Mapping[O], t token) bool {
	public, private, found := t.cut(":")
	if _, err := netip.ParseAddr(public.text); !found || err == nil {
		p.fail(t.end(), "no private port: %s", expected)
		return false
	}
	var publicOK, privateOK bool
	m.Public, publicOK = p.parseRange(public)
	m.Private, privateOK = p.parseRange(private)
	if !publicOK || !privateOK {
		return false
	}
	if m.Public.Len() != m.Private.Len() {
		p.fail(private.column, "ranges must be of equal length: %s has %d, %s has %d",
			m.Public, m.Public.Len(), m.Private, m.Private.Len())
		return false
	}
	return true
}

// parseRange reads "25" or "6000-6010".
func (p *parser[O]) parseRange(t token) (Range, bool) {
	low, high, isRange := t.cut("-")
	first, firstOK := p.parsePort(low)
	if !isRange {
		return Range{first, first}, firstOK
	}
	last, lastOK := p.parsePort(high)
	if !firstOK || !lastOK {
		return Range{}, false
	}
	if first > last {
		p.fail(t.column, "range %d-%d runs backwards: expected %d-%d", first, last, last, first)
		return Range{}, false
	}
	return Range{first, last}, true
}

// parsePort takes nothing but digits, so that each port has one spelling and nobody takes 0600 for octal.
func (p *parser[O]) parsePort(t token) (uint16, bool) {
	if before, protocol, found := t.cut("/"); found {
		p.fail(before.end(), "unexpected %s: the protocol is written once, behind the private port, as in 53:5353/udp", Quote("/"+protocol.text))
		return 0, false
	}
	n, err := strconv.ParseUint(t.text, 10, 16)
	switch {
	case t.text == "":
		p.fail(t.column, "no port: expected a number from 1 to 65535")
	case strings.Trim(t.text, "0123456789") != "":
		p.fail(t.column, "%s is not a port: expected a number from 1 to 65535", Quote(t.text))
	case err != nil || n == 0:
		p.fail(t.column, "port %s is out of range: expected a number from 1 to 65535", shorten(t.text))
	case t.text[0] == '0':
		p.fail(t.column, "port %s has leading zeros: expected %d", shorten(t.text), n)
	default:
		return uint16(n), true
	}
	return 0, false
}

// parseProto reads "/udp" or "/tcp".
func (p *parser[O]) parseProto(m *Mapping[O], t token) bool {
	switch t.text {
	case "/tcp":
	case UDPSuffix:
		m.Proto = UDP
	default:
		p.fail(t.column, "unknown protocol %s: expected /udp, or /tcp, which is the same as none", Quote(t.text))
		return false
	}
	return true
}
