package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"dokku-expose/deploy"
	"dokku-expose/proxy/tls"
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
)

var errNoHeader = errors.New("no PROXY header")

// The library takes less by default than HAProxy does.
func init() { proxyproto.MaxV2HeaderSize = maxHeader - uint16(fixedV2) }

// header tells an app where a connection comes from, and in the binary form of the TLS that it came through; secure is nil for none.
func (e ends) header(form deploy.ProxyProtocol, secure *tls.Conn) ([]byte, error) {
	version := byte(1)
	if form == deploy.ProxyV2 {
		version = 2
	}
	h := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(e.source), net.TCPAddrFromAddrPort(e.destination))
	if secure != nil && form == deploy.ProxyV2 {
		told := tlvparse.PP2SSL{
			Client: tlvparse.PP2_BITFIELD_CLIENT_SSL, Verify: 1,
			TLV: []proxyproto.TLV{{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte(secure.Version())}},
		}
		if c := secure.ClientCertificate(); c != nil {
			told.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN | tlvparse.PP2_BITFIELD_CLIENT_CERT_SESS
			told.Verify = 0
			if name := c.Subject.CommonName; name != "" {
				told.TLV = append(told.TLV, proxyproto.TLV{Type: proxyproto.PP2_SUBTYPE_SSL_CN, Value: []byte(name)})
			}
		}
		ssl, err := told.Marshal()
		if err != nil {
			return nil, err
		}
		tlvs := []proxyproto.TLV{ssl}
		if name := secure.ServerName(); name != "" {
			tlvs = append(tlvs, proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte(name)})
		}
		if protocol := secure.Protocol(); protocol != "" {
			tlvs = append(tlvs, proxyproto.TLV{Type: proxyproto.PP2_TYPE_ALPN, Value: []byte(protocol)})
		}
		if err := h.SetTLVs(tlvs); err != nil {
			return nil, err
		}
	}
	return h.Format()
}

// header is the PROXY header for the app, nil for none. The mutex is held.
func (r *route) header(s *session) ([]byte, error) {
	form := r.spec.Options.ProxyProtocol
	if form == "" {
		return nil, nil
	}
	if err := s.locate(); err != nil {
		return nil, err
	}
	return s.ends.header(form, s.secure)
}

// parseHeader reads the header that b begins with. It returns its length, 0 when more of it is to come, and the ends of the client's
// connection, nil when the header names none: the connection is the proxy's own, or neither of IPv4 nor of IPv6 over TCP.
//
// The library reads from a stream and takes a header that has not come in full for a wrong one: it gets a whole one.
func parseHeader(b []byte) (n int, told *ends, err error) {
	switch {
	case begins(b, signatureV1):
		b = b[:min(len(b), maxV1)]
		end := bytes.Index(b, []byte("\r\n"))
		switch {
		case end >= 0:
			n = end + len("\r\n")
		case len(b) == maxV1:
			return 0, nil, errNoHeader
		default:
			return 0, nil, nil
		}
	case begins(b, signatureV2):
		if len(b) < fixedV2 {
			return 0, nil, nil
		}
		n = fixedV2 + int(binary.BigEndian.Uint16(b[fixedV2-2:]))
		switch command, family := b[fixedV2-4], b[fixedV2-3]; {
		case n > maxHeader:
			return 0, nil, errNoHeader
		case len(b) < n:
			return 0, nil, nil
		case command == byte(proxyproto.PROXY) && family == byte(proxyproto.UNSPEC):
			// The library refuses this one, which the protocol leaves to the receiver. HAProxy takes it.
			return n, nil, nil
		}
	default:
		return 0, nil, errNoHeader
	}
	header, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b[:n]), n))
	if err != nil {
		return 0, nil, err
	}
	source, destination, ok := header.TCPAddrs()
	if !ok || header.Command.IsLocal() {
		return n, nil, nil
	}
	return n, &ends{unmapped(source), unmapped(destination)}, nil
}

// begins tells whether b begins with prefix, as far as it has come.
func begins(b []byte, prefix string) bool {
	n := min(len(b), len(prefix))
	return string(b[:n]) == prefix[:n]
}

// unmapped is an address without the form of IPv6 for one of IPv4.
func unmapped(a *net.TCPAddr) netip.AddrPort {
	addr := a.AddrPort()
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}
