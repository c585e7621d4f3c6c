package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"dokku-expose/deploy"
)

// The PROXY protocol is described in https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt.
const (
	signatureV1 = "PROXY "
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	// maxV1 is how long the form for humans can be, with its CRLF.
	maxV1 = 107
	// fixedV2 is how long the part of the binary form is that each header has.
	fixedV2 = len(signatureV2) + 4
	// maxHeader bounds a header with all that may follow the addresses in it, as HAProxy's buffers do.
	maxHeader = 16 << 10
	// headerTimeout is how long a header may take to come: longer than the second after which the kernel repeats a lost packet,
	// twice.
	headerTimeout = 5 * time.Second

	commandLocal, commandProxy = 0, 1
	tcp4, tcp6                 = 0x11, 0x21
)

var errNoHeader = errors.New("no PROXY header")

// header tells an app where a connection comes from, in the form that it wants, which may be none.
func (e ends) header(form deploy.ProxyProtocol) []byte {
	source, destination := e.source.Addr(), e.destination.Addr()
	four := source.Is4() && destination.Is4()
	if !four {
		source, destination = netip.AddrFrom16(source.As16()), netip.AddrFrom16(destination.As16())
	}
	switch form {
	case deploy.ProxyV1:
		family := "TCP6"
		if four {
			family = "TCP4"
		}
		return fmt.Appendf(nil, "%s%s %s %s %d %d\r\n", signatureV1, family, source, destination, e.source.Port(), e.destination.Port())
	case deploy.ProxyV2:
		family := byte(tcp6)
		if four {
			family = tcp4
		}
		addresses := append(source.AsSlice(), destination.AsSlice()...)
		addresses = binary.BigEndian.AppendUint16(addresses, e.source.Port())
		addresses = binary.BigEndian.AppendUint16(addresses, e.destination.Port())
		b := append([]byte(signatureV2), 2<<4|commandProxy, family)
		b = binary.BigEndian.AppendUint16(b, uint16(len(addresses)))
		return append(b, addresses...)
	}
	return nil
}

// parseHeader reads the header that b begins with. It returns how long that is, 0 when there is more to come, and what it tells of
// the client, nil when that is nothing.
func parseHeader(b []byte) (n int, told *ends, err error) {
	switch {
	case begins(b, signatureV1):
		return parseV1(b)
	case begins(b, signatureV2):
		return parseV2(b)
	}
	return 0, nil, errNoHeader
}

// begins tells whether b begins with prefix, as far as it has come.
func begins(b []byte, prefix string) bool {
	n := min(len(b), len(prefix))
	return string(b[:n]) == prefix[:n]
}

func parseV1(b []byte) (int, *ends, error) {
	b = b[:min(len(b), maxV1)]
	end := bytes.Index(b, []byte("\r\n"))
	switch {
	case end < 0 && len(b) == maxV1:
		return 0, nil, errNoHeader
	case end < 0:
		return 0, nil, nil
	}
	n := end + len("\r\n")
	words := strings.Split(string(b[:end]), " ")
	if words[1] == "UNKNOWN" {
		return n, nil, nil
	}
	if len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return 0, nil, errNoHeader
	}
	source, err := parseEnd(words[1], words[2], words[4])
	if err != nil {
		return 0, nil, err
	}
	destination, err := parseEnd(words[1], words[3], words[5])
	if err != nil {
		return 0, nil, err
	}
	return n, &ends{source, destination}, nil
}

func parseEnd(family, address, port string) (netip.AddrPort, error) {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Zone() != "" || ip.Is4() != (family == "TCP4") {
		return netip.AddrPort{}, errNoHeader
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(number, 10) != port {
		return netip.AddrPort{}, errNoHeader
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), nil
}

func parseV2(b []byte) (int, *ends, error) {
	if len(b) < fixedV2 {
		return 0, nil, nil
	}
	n := fixedV2 + int(binary.BigEndian.Uint16(b[fixedV2-2:]))
	version, command, family := b[fixedV2-4]>>4, b[fixedV2-4]&0xf, b[fixedV2-3]
	if version != 2 || command > commandProxy || n > maxHeader {
		return 0, nil, errNoHeader
	}
	size := map[byte]int{tcp4: 4, tcp6: 16}[family]
	// A connection of the proxy's own, or of a kind that is none of ours: what the header tells is skipped.
	nobody := command == commandLocal || size == 0
	ports := fixedV2 + 2*size
	switch {
	case !nobody && ports+4 > n:
		return 0, nil, errNoHeader
	case len(b) < n:
		return 0, nil, nil
	case nobody:
		return n, nil, nil
	}
	end := func(address, port []byte) netip.AddrPort {
		ip, _ := netip.AddrFromSlice(address)
		return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(port))
	}
	// What follows them is skipped.
	return n, &ends{
		end(b[fixedV2:fixedV2+size], b[ports:]),
		end(b[fixedV2+size:ports], b[ports+2:]),
	}, nil
}
