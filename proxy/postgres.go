package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"dokku-expose/deploy"
	"dokku-expose/proxy/tcp"
	"dokku-expose/proxy/tls"
)

// A client of Postgres asks for TLS before its ClientHello: https://www.postgresql.org/docs/17/protocol-flow.html#PROTOCOL-FLOW-SSL. Here
// the engine answers, so that it may end TLS or read the server name. The app hears the same question where it ends TLS itself.

// opening is what a client of Postgres says first.
type opening int

const (
	// unread is nothing, or not enough to tell.
	unread opening = iota
	// asksTLS wants a word before a ClientHello, beginsTLS is a ClientHello already (Postgres 17).
	asksTLS
	beginsTLS
	// asksGSS is answered by no. The client asks for something else then.
	asksGSS
	// cancels ends another connection's query, by a secret of that one. Programs with a libpq before 17 say it without TLS.
	cancels
	// plain is a connection without TLS.
	plain
)

const (
	// A message begins with its length and a code, each of 4 bytes.
	openingHeader = 8
	// maxStartup is the longest first message that Postgres takes, maxCancel the longest of those that cancel.
	maxStartup, minCancel, maxCancel = 10_000, 16, 268
	codeCancel, codeTLS, codeGSS     = 80877102, 80877103, 80877104
	postgresYes, postgresNo          = 'S', 'N'
	postgresProtocol                 = "postgresql"
	needsTLS                         = "this port needs TLS: sslmode=require, or verify-full to know whom you talk to"
)

var (
	// errNoPostgres is of a client that speaks another protocol.
	errNoPostgres = errors.New("no first message of Postgres")
	// errTooEarly is of bytes behind a question for TLS, before its answer: somebody between client and host may have put them there.
	errTooEarly = errors.New("bytes before the answer to a question for TLS")
	// errRefusesTLS is of an app.
	errRefusesTLS = errors.New("the app refuses TLS for Postgres")
	// errNoAnswer is of an app that accepts and does not answer. It may have much to do: that it is down is for checks to say.
	errNoAnswer = errors.New("the app does not answer a question for TLS")
)

// askForTLS is the message by which a client asks for TLS.
var askForTLS = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, openingHeader), codeTLS)

// parseOpening tells what a client has said first, and how long the question is.
func parseOpening(said []byte) (o opening, length int, err error) {
	switch {
	case len(said) == 0:
		return unread, 0, nil
	case said[0] == tls.HandshakeRecord:
		return beginsTLS, 0, nil
	case said[0] != 0:
		return unread, 0, errNoPostgres
	case len(said) < openingHeader:
		return unread, 0, nil
	}
	size, code := binary.BigEndian.Uint32(said), binary.BigEndian.Uint32(said[4:])
	switch {
	case code == codeCancel && size >= minCancel && size <= maxCancel:
		o = cancels
	case code>>16 == 3 && size > openingHeader && size <= maxStartup:
		o = plain
	case code == codeGSS && size == openingHeader:
		o = asksGSS
	case code == codeTLS && size == openingHeader:
		o = asksTLS
	default:
		return unread, 0, errNoPostgres
	}
	switch {
	case len(said) < int(size):
		return unread, 0, nil // What comes after the answer would make the end a reset.
	case o == cancels || o == plain:
		return o, 0, nil
	case len(said) > openingHeader:
		return unread, 0, errTooEarly
	}
	return o, openingHeader, nil
}

// awaitOpening reads what a client of Postgres says before TLS, and goes on then. It runs in the client's loop. mayCancel tells that a
// client without TLS may do that: it is known which app it means, and the app asks for no certificate.
func (s *session) awaitOpening(r *route, mayCancel bool, then func()) {
	var (
		o       opening
		refused bool
	)
	s.client.ReadHead(tls.HandshakeTimeout, func(b []byte) (length int, complete bool, err error) {
		o, length, err = parseOpening(b)
		if refused = o == plain || o == cancels && !mayCancel; refused {
			length = len(b) // Unread bytes make the end a reset, which could overtake the message.
		}
		return length, o != unread, err
	}, func(err error) {
		switch {
		case err != nil:
			r.handshakesFailed.Add(1)
			s.reject()
		case refused:
			r.handshakesFailed.Add(1)
			// A client that does not take it has gone.
			_, _ = s.client.Write(fatal("28000", needsTLS))
			s.giveUp()
		case o == asksGSS && s.opening == asksGSS:
			s.reject() // It was told.
		case o == asksGSS:
			s.opening = o
			if _, err := s.client.Write([]byte{postgresNo}); err != nil {
				s.reject()
				return
			}
			s.awaitOpening(r, mayCancel, then)
		default:
			s.opening = o
			if o == asksTLS {
				if _, err := s.client.Write([]byte{postgresYes}); err != nil {
					s.reject()
					return
				}
			}
			then()
		}
	})
}

// opened tells whether a client has said what comes before TLS.
func (s *session) opened() bool { return s.opening != unread && s.opening != asksGSS }

// fatal is a message of Postgres that ends a connection: https://www.postgresql.org/docs/17/protocol-error-fields.html.
func fatal(code, text string) []byte {
	var fields []byte
	for _, field := range []string{"SFATAL", "VFATAL", "C" + code, "M" + text, ""} {
		fields = append(append(fields, field...), 0)
	}
	return append(binary.BigEndian.AppendUint32([]byte{'E'}, uint32(4+len(fields))), fields...)
}

// asksApp tells whether the app is to be asked for TLS, as its client has asked: TLS does not end here.
func (r *route) asksApp(s *session) bool {
	return s.opening == asksTLS && r.postgres.Load() && r.tls.Load() == nil
}

// askApp sends the app what comes first, and asks it for TLS. The question ends with ctx: Apply waits for all attempts on a server that is
// out of service, and one that hangs would hold it up.
func (r *route) askApp(ctx context.Context, s *session, server *tcp.Conn, then func(error)) {
	failed := func(err error) {
		server.Reset()
		if !errors.Is(err, errRefusesTLS) {
			err = fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		then(err)
	}
	r.mu.Lock()
	header, err := r.header(s)
	r.mu.Unlock()
	if err != nil {
		failed(err)
		return
	}
	client := s.client
	client.Post(func() {
		if _, err := server.Write(append(header, askForTLS...)); err != nil {
			failed(err)
			return
		}
		unbind := context.AfterFunc(ctx, func() { client.Post(server.Shutdown) })
		server.ReadHeadBeside(client, tls.HandshakeTimeout, func(b []byte) (int, bool, error) {
			if b[0] != postgresYes {
				return 0, false, errRefusesTLS
			}
			return 1, true, nil
		}, func(err error) {
			unbind()
			if err != nil {
				failed(err)
				return
			}
			then(nil)
		})
	})
}

// protocols are those that ALPN chooses from.
func protocols(o deploy.Options) []string {
	names := o.ALPN.Protocols()
	if o.StartTLS == deploy.PostgresStartTLS {
		names = append(names, postgresProtocol)
	}
	return names
}
