package tls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// HandshakeTimeout is how long a client may take: longer than the second after which the kernel repeats a lost packet, thrice.
const HandshakeTimeout = 10 * time.Second

// Server ends TLS for clients by a certificate, which another one may replace while it serves.
type Server struct {
	certificate atomic.Pointer[tls.Certificate]
	config      *tls.Config
}

// NewServer makes a server without a certificate, whose handshakes all fail.
func NewServer() *Server {
	s := new(Server)
	// With Go's own choice of curves this is the intermediate list of https://wiki.mozilla.org/Security/Server_Side_TLS.
	s.config = &tls.Config{
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
	return s
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

// Handshake makes a connection to a client one in which both speak through TLS. After an error it is closed.
func (s *Server) Handshake(client *net.TCPConn) (*Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), HandshakeTimeout)
	defer cancel()
	c := &Conn{Conn: tls.Server(client, s.config), tcp: client}
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

// CloseWrite tells the client that nothing more comes, also one that looks at the connection below only.
func (c *Conn) CloseWrite() error { return errors.Join(c.Conn.CloseWrite(), c.tcp.CloseWrite()) }

// reset ends a connection with a reset, so that the peer does not take the end for an orderly one.
func reset(c *net.TCPConn) {
	// It fails on a connection that is broken already, which needs no reset.
	_ = c.SetLinger(0)
	_ = c.Close()
}
