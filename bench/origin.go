package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/net/ipv4"
)

// What a client says first on a connection, as a line, is what the origin does with it.
const (
	// sayEcho: it echoes all, this line first.
	sayEcho = "echo"
	// saySend: it sends for as long as the client reads.
	saySend = "send"
	// sayReset: it echoes the line, and resets the connection when it gets another one.
	sayReset = "reset"
	// sayWatch TOKEN: it echoes the line and reads to the end.
	sayWatch = "watch"
	// sayBefore, sayAfter and sayBoth TOKEN BYTES: it sends so many bytes and ends its half, before it reads to the end, after
	// that, or at the same time.
	sayBefore, sayAfter, sayBoth = "before", "after", "both"
	// sayAsk TOKEN: it says how another connection ended, in JSON.
	sayAsk = "ask"
	// sayCount: it says how many datagrams that begin with this word have come to the address, in JSON. All others are echoed.
	sayCount = "count"
)

// chunk is how much is written and read at a time in bulk.
const chunk = 256 << 10

// ending is how the origin saw a connection end, and what it got until then.
type ending struct {
	Reset bool
	Bytes int64
	Sum   []byte
}

// server is the origin: what is behind all the proxies.
type server struct {
	zeros []byte

	mu      sync.Mutex
	endings map[string]chan ending // by token
	// counts are those of the datagrams that have come to an address.
	counts map[netip.AddrPort]*atomic.Int64
}

// serveOrigin listens on the addresses that it is given.
func serveOrigin(ctx context.Context, args []string, _ io.Reader, _ io.Writer) error {
	s := &server{zeros: make([]byte, chunk), endings: make(map[string]chan ending), counts: make(map[netip.AddrPort]*atomic.Int64)}
	for _, arg := range args {
		addr, err := netip.ParseAddrPort(arg)
		if err != nil {
			return err
		}
		ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
		if err != nil {
			return err
		}
		defer ln.Close()
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return err
		}
		defer conn.Close()
		// It must not be the one that loses datagrams.
		if err := conn.SetReadBuffer(4 << 20); err != nil {
			return err
		}
		go serveDatagrams(conn, s.count(addr))
		go s.accept(ln)
	}
	<-ctx.Done()
	return nil
}

// serveDatagrams takes many with each call: what the origin costs is in the way of the proxies.
func serveDatagrams(conn *net.UDPConn, count *atomic.Int64) {
	batch := ipv4.NewPacketConn(conn)
	messages := make([]ipv4.Message, 32)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, 2048)}
	}
	for {
		n, err := batch.ReadBatch(messages, 0)
		if err != nil {
			return
		}
		for _, m := range messages[:n] {
			if datagram := m.Buffers[0][:m.N]; bytes.HasPrefix(datagram, []byte(sayCount)) {
				count.Add(1)
			} else {
				_, _ = conn.WriteTo(datagram, m.Addr) // a client that is gone
			}
		}
	}
}

func (s *server) accept(ln *net.TCPListener) {
	for {
		conn, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		go s.serve(conn)
	}
}

func (s *server) serve(conn *net.TCPConn) {
	defer conn.Close()
	// Small, for there may be ten thousand.
	reader := bufio.NewReaderSize(conn, 512)
	line, err := reader.ReadString('\n')
	if err != nil {
		return
	}
	var (
		verb, token string
		size        int64
	)
	_, _ = fmt.Sscan(line, &verb, &token, &size) // not all of them have three words
	switch verb {
	case sayEcho:
		if _, err := io.WriteString(conn, line); err == nil {
			_, _ = io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{reader}, make([]byte, 512))
		}
	case saySend:
		for err == nil {
			_, err = conn.Write(s.zeros)
		}
	case sayReset:
		if _, err := io.WriteString(conn, line); err == nil {
			_, _ = reader.ReadString('\n')
			drop(conn)
		}
	case sayWatch:
		_, _ = io.WriteString(conn, line)
		s.ending(token) <- receive(reader)
	case sayBefore, sayAfter, sayBoth:
		s.ending(token) <- exchange(verb, conn, reader, size)
	case sayCount:
		_ = json.NewEncoder(conn).Encode(s.count(conn.LocalAddr().(*net.TCPAddr).AddrPort()).Load())
	case sayAsk:
		_ = json.NewEncoder(conn).Encode(<-s.ending(token))
	}
}

// ending is where the end of the connection with that token is told.
func (s *server) ending(token string) chan ending {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endings[token] == nil {
		s.endings[token] = make(chan ending, 1)
	}
	return s.endings[token]
}

// count is that of an address.
func (s *server) count(addr netip.AddrPort) *atomic.Int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts[addr] == nil {
		s.counts[addr] = new(atomic.Int64)
	}
	return s.counts[addr]
}

// exchange sends size bytes in the order that verb says, and returns what was received.
func exchange(verb string, conn *net.TCPConn, reader io.Reader, size int64) (got ending) {
	send := func() {
		// What the client does not get it tells.
		_, _ = io.Copy(conn, payload(fromOrigin, size))
		_ = conn.CloseWrite()
	}
	switch verb {
	case sayBefore:
		send()
		return receive(reader)
	case sayAfter:
		got = receive(reader)
		send()
		return got
	}
	var sending sync.WaitGroup
	sending.Go(send)
	defer sending.Wait()
	return receive(reader)
}

// receive reads to the end.
func receive(reader io.Reader) ending {
	sum := sha256.New()
	n, err := io.Copy(sum, reader)
	return ending{Reset: errors.Is(err, syscall.ECONNRESET), Bytes: n, Sum: sum.Sum(nil)}
}

// What is sent in each direction, so that nobody takes the one for the other.
const fromOrigin, fromClient = "origin", "client"

// payload is size bytes that look random and are the same each time.
func payload(from string, size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte([]byte(strings.Repeat(from+"..", 4)))), size)
}

// sumOf is the checksum of a payload.
func sumOf(from string, size int64) []byte {
	sum := sha256.New()
	_, _ = io.Copy(sum, payload(from, size))
	return sum.Sum(nil)
}
