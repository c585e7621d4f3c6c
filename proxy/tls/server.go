package tls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// HandshakeTimeout is how long a client may take: longer than the second after which the kernel repeats a lost packet, thrice.
const HandshakeTimeout = 10 * time.Second

// Server ends TLS for clients by a certificate, which another one may replace while it serves.
type Server struct {
	certificate atomic.Pointer[tls.Certificate]
	options     Options
	config      atomic.Pointer[tls.Config]
}

// Options are what a server asks of clients. The zero value asks for nothing in particular.
type Options struct {
	// Protocols are those that ALPN chooses from, the best first. A client that offers none of them goes on without one, unless its
	// handshake needs one.
	Protocols []string
	// ClientCA are the authorities of which a client needs a certificate, in PEM; "" asks for none.
	ClientCA string
}

// NewServer makes a server without a certificate, whose handshakes all fail.
func NewServer() *Server {
	s := new(Server)
	s.config.Store(s.newConfig())
	return s
}

// newConfig is the configuration without options.
func (s *Server) newConfig() *tls.Config {
	// With Go's own choice of curves this is the intermediate list of https://wiki.mozilla.org/Security/Server_Side_TLS.
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := s.certificate.Load(); c != nil {
				return c, nil
			}
			return nil, errors.New("no certificate")
		},
	}
}

// Configure has the options go for handshakes that begin from now on; those that did not change change nothing. It is not to be called
// twice at a time. After an error the options before go on.
func (s *Server) Configure(o Options) error {
	if slices.Equal(o.Protocols, s.options.Protocols) && o.ClientCA == s.options.ClientCA {
		return nil
	}
	config := s.newConfig()
	if o.ClientCA != "" {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM([]byte(o.ClientCA)) {
			return errors.New("the authorities of clients' certificates can't be read")
		}
	}
	if o.Protocols != nil {
		// The library refuses clients that offer others only, where OpenSSL, and so HAProxy, goes on without a protocol.
		plain := config.Clone()
		config.NextProtos = o.Protocols
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			switch {
			case slices.ContainsFunc(hello.SupportedProtos, func(p string) bool { return slices.Contains(o.Protocols, p) }):
				return nil, nil
			case hello.Context().Value(needsProtocol{}) != nil:
				return nil, refuseProtocol(hello.Conn)
			}
			return plain, nil
		}
	}
	s.options = o
	s.config.Store(config)
	return nil
}

// Use shows clients the certificate in the file chain from now on, with its key in another one, both PEM. After an error it shows the one
// before.
func (s *Server) Use(chain, key string) error {
	c, err := tls.LoadX509KeyPair(chain, key)
	if err != nil {
		return fmt.Errorf("%s with %s: %w", chain, key, err)
	}
	s.certificate.Store(&c)
	return nil
}

// needsProtocol is the key of a value in the context of handshakes that need a protocol.
type needsProtocol struct{}

// errNoProtocol is of a client that offers no protocol of those that its handshake needs.
var errNoProtocol = errors.New("the client offers no protocol that is known here")

// refuseProtocol ends a handshake by the alert no_application_protocol (RFC 7301): fatal, 120. The library sends another one after an error,
// which a closed connection does not take.
func refuseProtocol(client net.Conn) error {
	_, err := client.Write([]byte{21, 3, 3, 0, 2, 2, 120})
	return errors.Join(errNoProtocol, err, client.Close())
}

// Handshake makes a connection to a client one in which both speak through TLS. With protocol the client has to offer one of the Protocols,
// if there are any. After an error the connection is closed.
func (s *Server) Handshake(client *net.TCPConn, protocol bool) (*Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), HandshakeTimeout)
	defer cancel()
	if protocol {
		ctx = context.WithValue(ctx, needsProtocol{}, true)
	}
	c := &Conn{Conn: tls.Server(client, s.config.Load()), tcp: client}
	if err := c.HandshakeContext(ctx); err != nil {
		// A reset could overtake the alert that tells the client what is wrong.
		_ = client.Close()
		return nil, err
	}
	return c, nil
}

// Conn is a connection to a client through TLS.
type Conn struct {
	*tls.Conn
	tcp *net.TCPConn
}

// ServerName is the host that the client asked for, "" for none.
func (c *Conn) ServerName() string { return c.ConnectionState().ServerName }

// Version is the version of TLS as OpenSSL writes it: "TLSv1.3".
func (c *Conn) Version() string {
	return strings.Replace(tls.VersionName(c.ConnectionState().Version), "TLS ", "TLSv", 1)
}

// Protocol is the one that ALPN has chosen, "" for none.
func (c *Conn) Protocol() string { return c.ConnectionState().NegotiatedProtocol }

// ClientCertificate is the certificate that the client has shown, and that was verified; nil for none.
func (c *Conn) ClientCertificate() *x509.Certificate {
	if chains := c.ConnectionState().VerifiedChains; len(chains) > 0 {
		return chains[0][0]
	}
	return nil
}

// CloseWrite tells the client that nothing more comes, also one that looks at the connection below only.
func (c *Conn) CloseWrite() error { return errors.Join(c.Conn.CloseWrite(), c.tcp.CloseWrite()) }

// reset ends a connection with a reset, so that the peer does not take the end for an orderly one.
func reset(c *net.TCPConn) {
	// It fails on a connection that is broken already, which needs no reset.
	_ = c.SetLinger(0)
	_ = c.Close()
}
