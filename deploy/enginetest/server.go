package enginetest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/internal/freeport"
	"dokku-expose/internal/wait"
)

// Server is an app's container for tests: a line server that greets with "NAME NAME PORT", so that a client knows who
// answered, and echoes lines. It goes on until the test ends.
type Server struct {
	Name string
	// Addr is where it listens, or will.
	Addr netip.AddrPort

	t testing.TB
	// talk has each connection, which is closed when it returns.
	talk func(net.Conn)
	mu   sync.Mutex
	ln   net.Listener
	// conns are those that are open.
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// NewServer starts a server on a free port of 127.0.0.1.
func NewServer(t testing.TB, name string) *Server {
	t.Helper()
	s := Reserve(t, name)
	s.Listen()
	return s
}

// Reserve is a server that does not listen before Listen.
func Reserve(t testing.TB, name string) *Server {
	t.Helper()
	s := &Server{Name: name, t: t, conns: make(map[net.Conn]bool)}
	s.talk = s.echo
	s.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), FreePort(t))
	t.Cleanup(func() {
		s.Refuse()
		s.mu.Lock()
		for conn := range s.conns {
			_ = conn.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

// Listen makes it accept.
func (s *Server) Listen() {
	s.t.Helper()
	var ln net.Listener
	// A process that this one is just starting has a copy of all sockets for a moment, also of one that Refuse has closed.
	wait.Until(s.t, "nobody listens on "+s.Addr.String(), func() bool {
		var err error
		if ln, err = net.Listen("tcp", s.Addr.String()); err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			s.t.Fatal(err)
		}
		return err == nil
	})
	s.mu.Lock()
	s.ln = ln
	s.mu.Unlock()
	s.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // Refuse
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			s.wg.Go(func() {
				defer s.closed(conn)
				s.talk(conn)
			})
		}
	})
}

// Refuse makes it refuse new connections; established ones go on.
func (s *Server) Refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln != nil {
		_ = s.ln.Close()
		s.ln = nil
	}
}

func (s *Server) closed(conn net.Conn) {
	s.mu.Lock()
	delete(s.conns, conn)
	s.mu.Unlock()
	_ = conn.Close()
}

// echo greets and echoes lines. When the client has said its last, so does it, and closes.
func (s *Server) echo(conn net.Conn) {
	if _, err := fmt.Fprintf(conn, "%s %s %d\n", s.Name, s.Name, s.Addr.Port()); err != nil {
		return
	}
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			_, _ = fmt.Fprintf(conn, "goodbye from %s\n", s.Name)
			return
		}
		if err != nil {
			return
		}
		if _, err := conn.Write([]byte(line)); err != nil {
			return
		}
	}
}

// server is what a route says of s.
func (s *Server) server(proven bool) deploy.Server {
	return deploy.Server{Container: s.Name, Dyno: "web.1", Addr: s.Addr, Proven: proven}
}

// FreePort is a port on which nobody listens, on any address, and which nobody else gets before the test has ended.
func FreePort(t testing.TB) uint16 {
	t.Helper()
	port, err := freeport.Take()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := freeport.Release(port); err != nil {
			t.Error(err)
		}
	})
	return port
}
