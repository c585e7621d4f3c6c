package proxy

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/testcert"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/proxytest"
)

// A client that may go without TLS at one app, to cancel a query, may not at the app that has the port next.
func TestPortOfCancellingClientChangesHands(t *testing.T) {
	cert := testcert.New(t, time.Hour, "mail.example.com")
	secured := func(r deploy.Route, options string) deploy.Route {
		var err error
		if r.Options, err = deploy.ParseOptions(options); err != nil {
			t.Fatal(err)
		}
		r.Certificate = deploy.Certificate{Chain: cert.Chain, Key: cert.Key, ID: cert.Chain}
		return r
	}
	s, full := newServer(t), fullBacklog(t)
	db := secured(proxytest.RouteTo("db", enginetest.FreePort(t)), "tls=terminate starttls=postgres")
	db.Servers = []deploy.Server{{Container: "full", Dyno: "web.1", Addr: full.addr, Proven: true}}
	db.HealthCheck = 0
	proxytest.Apply(t, s, db)
	client := proxytest.Dial(t, db.Key.Port)
	if _, err := client.Conn.Write([]byte("\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x07secr and more")); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "it is being connected", func() bool { return full.connecting(t) == 1 })
	proxytest.Apply(t, s, secured(proxytest.RouteTo("news", db.Key.Port, enginetest.NewServer(t, "news")), "tls=terminate"))
	_ = client.AwaitEnd()
}

// FuzzOpening shows that a client's first bytes are one thing, or none, whatever comes behind them, and that of a question nothing behind
// it is taken.
func FuzzOpening(f *testing.F) {
	for _, seed := range []string{
		"", "\x00\x00\x00\x08\x04\xd2\x16\x2f", "\x00\x00\x00\x08\x04\xd2\x16\x30", "\x00\x00\x00\x10\x04\xd2\x16\x2e12345678", "\x16\x03\x01",
		"\x00\x00\x00\x11\x00\x03\x00\x00user\x00me\x00\x00", "EHLO", "\x00\x00\x00\x04", "\x00\x00\x00\x08\x04\xd2\x16\x2f\x16",
	} {
		f.Add([]byte(seed), []byte("x"))
	}
	f.Fuzz(func(t *testing.T, said, more []byte) {
		o, length, err := parseOpening(said)
		if err != nil && (o != unread || length != 0) || (o == asksTLS || o == asksGSS) != (length == openingHeader) || length > len(said) {
			t.Fatalf("got %d, %d, %v", o, length, err)
		}
		later, _, laterErr := parseOpening(append(append([]byte(nil), said...), more...))
		switch {
		case err != nil:
			if laterErr == nil {
				t.Errorf("with more it is %d", later)
			}
		case length > 0 && len(more) > 0:
			if laterErr == nil {
				t.Errorf("a question with more behind it is %d", later)
			}
		case o != unread && later != o:
			t.Errorf("with more it is %d, %v, and was %d", later, laterErr, o)
		}
	})
}

// The log says once that an app refuses TLS, which its clients can't know.
func TestAppThatRefusesTLSIsLogged(t *testing.T) {
	var log wait.Buffer
	s := newServerWith(t, slog.New(slog.NewTextHandler(&log, nil)), nil)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("N"))
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	r := proxytest.RouteTo("db", enginetest.FreePort(t))
	if r.Options, err = deploy.ParseOptions("tls=passthrough starttls=postgres"); err != nil {
		t.Fatal(err)
	}
	r.Servers = []deploy.Server{{Container: "db", Dyno: "web.1", Addr: ln.Addr().(*net.TCPAddr).AddrPort(), Proven: true}}
	proxytest.Apply(t, s, r)
	for range 3 {
		c := proxytest.Dial(t, r.Key.Port)
		if _, err := c.Conn.Write(askForTLS); err != nil {
			t.Fatal(err)
		}
		if answer, err := c.Lines.ReadByte(); err != nil || answer != postgresYes {
			t.Fatalf("the question is answered with %q, %v", answer, err)
		}
		_ = c.AwaitEnd()
	}
	// The log is written before the client's end, and by nobody afterwards.
	if n := strings.Count(log.String(), "refuses TLS for Postgres"); n != 1 {
		t.Errorf("the log says it %d times, want once:\n%s", n, log.String())
	}
	if state := proxytest.Observe(t, s).Routes[0]; state.HandshakesFailed != 3 {
		t.Errorf("%d handshakes have failed, want 3", state.HandshakesFailed)
	}
}
