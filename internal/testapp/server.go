package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// errExitAfter is the crash that -exit-after asks for.
var errExitAfter = errors.New("exiting as -exit-after wants it")

// serve listens, answers until ctx ends, and then lets the connections it has go on for cfg.linger at most.
func serve(ctx context.Context, cfg config, log io.Writer) error {
	var crash <-chan time.Time
	if cfg.exitAfter > 0 {
		crash = time.After(cfg.exitAfter)
	}
	if cfg.listenDelay > 0 {
		select {
		case <-time.After(cfg.listenDelay):
		case <-crash:
			return errExitAfter
		case <-ctx.Done():
			return nil
		}
	}

	s := &server{cfg: cfg, log: log, conns: make(map[net.Conn]struct{})}
	if !cfg.noListen {
		if err := s.listen(); err != nil {
			return err
		}
	}
	select {
	case <-crash:
		return errExitAfter
	case <-ctx.Done():
	}
	s.shutdown()
	return nil
}

type server struct {
	cfg       config
	log       io.Writer
	listeners []net.Listener
	serving   sync.WaitGroup // one per listener and per connection

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// listen opens all ports before it serves any: an app that listens on half of its ports is a failed app.
func (s *server) listen() error {
	for _, port := range s.cfg.ports {
		addr := net.JoinHostPort(s.cfg.bind, strconv.Itoa(int(port)))
		ln, err := net.Listen(s.cfg.network, addr)
		if err != nil {
			s.close()
			return fmt.Errorf("listening on port %d: %w", port, err)
		}
		s.listeners = append(s.listeners, ln)
	}
	for _, port := range s.cfg.udp {
		conn, err := net.ListenPacket("udp", net.JoinHostPort(s.cfg.bind, strconv.Itoa(int(port))))
		if err != nil {
			s.close()
			return fmt.Errorf("listening on port %d of UDP: %w", port, err)
		}
		// They are answered for as long as the process lives: no datagram is the last one.
		go s.answer(conn, port)
	}
	for i, ln := range s.listeners {
		s.serving.Go(func() { s.accept(ln, s.cfg.ports[i]) })
	}
	return nil
}

func (s *server) accept(ln net.Listener, port uint16) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of files, or the client was gone already: neither is a reason to stop accepting.
			fmt.Fprintf(s.log, "testapp: accepting on port %d: %v\n", port, err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if s.cfg.slam {
			_ = conn.Close()
			continue
		}
		s.mu.Lock()
		s.conns[conn] = struct{}{}
		s.mu.Unlock()
		s.serving.Go(func() { s.talk(conn, port) })
	}
}

func (s *server) talk(conn net.Conn, port uint16) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
		_ = conn.Close()
	}()
	if _, err := fmt.Fprintf(conn, "%s %s %d\n", s.cfg.version, s.cfg.id, port); err != nil {
		return
	}
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadSlice('\n')
		// A line longer than the buffer goes back in parts.
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
		if _, err := conn.Write(line); err != nil {
			return
		}
	}
}

func (s *server) answer(conn net.PacketConn, port uint16) {
	head := fmt.Sprintf("%s %s %d\n", s.cfg.version, s.cfg.id, port)
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err == nil {
			_, err = conn.WriteTo(append([]byte(head), buffer[:n]...), from)
		}
		if err != nil {
			fmt.Fprintf(s.log, "testapp: UDP port %d: %v\n", port, err)
		}
	}
}

// shutdown refuses new connections at once, and cuts those that are still there when the linger time is over.
func (s *server) shutdown() {
	s.close()
	over := make(chan struct{})
	if len(s.cfg.udp) > 0 {
		// No session of UDP tells that it is over.
		s.serving.Go(func() { time.Sleep(s.cfg.linger) })
	}
	go func() {
		s.serving.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(s.cfg.linger):
		s.mu.Lock()
		for conn := range s.conns {
			_ = conn.Close()
		}
		s.mu.Unlock()
		<-over
	}
}

func (s *server) close() {
	for _, ln := range s.listeners {
		_ = ln.Close()
	}
}
