package tls

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"dokku-expose/internal/testcert"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/tcp"
)

// pair is a connection over TCP.
func pair(t *testing.T) (dialed, accepted *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{conn, other} {
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(wait.Patience)); err != nil {
			t.Fatal(err)
		}
	}
	return conn.(*net.TCPConn), other.(*net.TCPConn)
}

// relayed is a relay between a client and a server.
type relayed struct {
	*Relay
	client    *tls.Conn
	clientTCP *net.TCPConn
	server    *net.TCPConn
	done      chan error
	counters  tcp.Counters
}

func newRelayed(t *testing.T, options tcp.RelayOptions) *relayed {
	t.Helper()
	cert := testcert.New(t, time.Hour, "mail.example.com")
	s := NewServer()
	if err := s.Use(cert.Chain, cert.Key); err != nil {
		t.Fatal(err)
	}
	clientTCP, in := pair(t)
	out, server := pair(t)
	r := &relayed{client: tls.Client(clientTCP, cert.Client), clientTCP: clientTCP, server: server, done: make(chan error, 1)}
	failed := make(chan error, 1)
	go func() { failed <- r.client.Handshake() }()
	secure, err := s.Handshake(in, false)
	if err := errors.Join(err, <-failed); err != nil {
		t.Fatal(err)
	}
	// The relay's connections have no deadline.
	if err := errors.Join(in.SetDeadline(time.Time{}), out.SetDeadline(time.Time{})); err != nil {
		t.Fatal(err)
	}
	r.Relay = NewRelay(secure, out, options, &r.counters, func(err error) { r.done <- err })
	return r
}

// said has one side say something that the other side hears.
func said(t *testing.T, from io.Writer, to io.Reader, text string) {
	t.Helper()
	if _, err := io.WriteString(from, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v, want %q", got, err, text)
	}
}

func wantReset(t *testing.T, conn io.Reader) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %d bytes, %v, want a reset", n, err)
	}
}

// A reset is no end: neither side may take it for one that the other side wanted.
func TestResetsArePassedOn(t *testing.T) {
	for name, reset := range map[string]func(*relayed){
		"the client's": func(r *relayed) { _ = errors.Join(r.clientTCP.SetLinger(0), r.clientTCP.Close()) },
		"the server's": func(r *relayed) { _ = errors.Join(r.server.SetLinger(0), r.server.Close()) },
		"the relay's":  func(r *relayed) { r.Reset(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelayed(t, tcp.RelayOptions{Opening: []byte("opening ")})
			said(t, r.client, r.server, "")
			opening := make([]byte, len("opening "))
			if _, err := io.ReadFull(r.server, opening); err != nil || string(opening) != "opening " {
				t.Fatalf("%q, %v", opening, err)
			}
			said(t, r.client, r.server, "hello")
			said(t, r.server, r.client, "welcome")
			reset(r)
			if name != "the client's" {
				wantReset(t, r.client)
			}
			if name != "the server's" {
				wantReset(t, r.server)
			}
			err := <-r.done
			if err == nil || (name == "the relay's") != errors.Is(err, os.ErrClosed) {
				t.Errorf("the relay is over with %v", err)
			}
			again := make(chan bool, 1)
			r.Reset(func(reset bool) { again <- reset })
			if <-again {
				t.Error("a relay that is over is reset")
			}
			if in, out := r.counters.In.Load(), r.counters.Out.Load(); in != uint64(len("opening hello")) || out != uint64(len("welcome")) {
				t.Errorf("%d and %d bytes are counted", in, out)
			}
		})
	}
}

// A half-closed relay ends when it is idle, and not while a side does not take what there is for it.
func TestHalfClosedRelayEnds(t *testing.T) {
	r := newRelayed(t, tcp.RelayOptions{HalfClosedTimeout: 100 * time.Millisecond})
	said(t, r.client, r.server, "hello")
	if err := r.client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r.server); err != nil {
		t.Errorf("the server hears of the client's end: %v", err)
	}
	if err := <-r.done; err != nil {
		t.Errorf("the relay is over with %v", err)
	}

	stuck := newRelayed(t, tcp.RelayOptions{HalfClosedTimeout: 100 * time.Millisecond})
	const size = 64 << 20 // more than the kernel's buffers hold
	sent := make(chan error, 1)
	go func() {
		_, err := stuck.server.Write(make([]byte, size))
		sent <- errors.Join(err, stuck.server.CloseWrite())
	}()
	// It has begun.
	if _, err := io.ReadFull(stuck.client, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := stuck.client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	// The same time, and more, passes for another relay.
	other := newRelayed(t, tcp.RelayOptions{IdleTimeout: time.Second})
	<-other.done
	if n, err := io.Copy(io.Discard, stuck.client); n != size-1 || err != nil {
		t.Errorf("the client reads %d of %d bytes, %v", n, size-1, err)
	}
	if err := errors.Join(<-sent, <-stuck.done); err != nil {
		t.Error(err)
	}
}

func TestHandshakeWithoutCertificate(t *testing.T) {
	client, in := pair(t)
	failed := make(chan error, 1)
	go func() { failed <- tls.Client(client, &tls.Config{ServerName: "mail.example.com"}).Handshake() }()
	if _, err := NewServer().Handshake(in, false); err == nil {
		t.Error("a server without a certificate shows one")
	}
	var alert *net.OpError
	if err := <-failed; !errors.As(err, &alert) || alert.Op != "remote error" {
		t.Errorf("the client hears %v, want an alert", err)
	}
}
