package tls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"strings"
)

// A client speaks in records, which hold messages: https://www.rfc-editor.org/rfc/rfc8446, 4 and 5.1.
const (
	recordHeader, messageHeader = 5, 4
	clientHello                 = 1
	// HandshakeRecord is the first byte that a client says.
	HandshakeRecord = 22
)

// errNoHello is of a client that does not speak TLS.
var errNoHello = errors.New("no ClientHello of TLS")

// ServerName is the host that a client asks for, in lower case and "" for none, by what it has said so far. It is not complete as long as
// there is more to come. Nothing is wanted of the client but a ClientHello that can be read: whether TLS comes of it is another matter.
func ServerName(said []byte) (name string, complete bool, err error) {
	if complete, err = hasHello(said); !complete || err != nil {
		return "", false, err
	}
	err = errNoHello
	server := tls.Server(&recording{said: bytes.NewReader(said)}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name, err = strings.ToLower(hello.ServerName), nil
			return nil, errNoHello // it is the end of this handshake
		},
	})
	_ = server.Handshake()
	return name, err == nil, err
}

// hasHello tells whether a ClientHello has come as a whole: it may be in several records.
func hasHello(said []byte) (bool, error) {
	var message []byte
	for rest := said; ; {
		if len(rest) > 0 && rest[0] != HandshakeRecord || len(rest) > 1 && rest[1] != 3 {
			return false, errNoHello
		}
		if len(rest) < recordHeader {
			return false, nil
		}
		n := recordHeader + int(rest[3])<<8 + int(rest[4])
		if n == recordHeader {
			return false, errNoHello
		}
		message = append(message, rest[recordHeader:min(n, len(rest))]...)
		if len(message) > 0 && message[0] != clientHello {
			return false, errNoHello
		}
		if len(message) >= messageHeader && len(rest) >= n &&
			len(message) >= messageHeader+int(message[1])<<16+int(message[2])<<8+int(message[3]) {
			return true, nil
		}
		if len(rest) < n {
			return false, nil
		}
		rest = rest[n:]
	}
}

// recording is a connection on which a client has said something, and nobody listens.
type recording struct {
	net.Conn
	said *bytes.Reader
}

func (r *recording) Read(b []byte) (int, error)  { return r.said.Read(b) }
func (r *recording) Write(b []byte) (int, error) { return len(b), nil }
func (r *recording) Close() error                { return nil }
