package tcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// forwarder relays the connections to a port to a server, as the engine does.
type forwarder struct {
	port     uint16
	counters Counters
	// over waits for the relays' end.
	over sync.WaitGroup

	mu     sync.Mutex
	relays []*Relay
	// more tells that there is one more.
	more *sync.Cond
}

func forward(t testing.TB, serve func(*net.TCPConn)) *forwarder {
	t.Helper()
	back, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := back.AcceptTCP()
			if err != nil {
				return // the test's end
			}
			serving.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	l, port := listen(t)
	f := &forwarder{port: port}
	f.more = sync.NewCond(&f.mu)
	l.Serve(&acceptor{t: t, accepted: func(client *Conn) {
		Dial(t.Context(), back.Addr().(*net.TCPAddr).AddrPort(), time.Minute, 0, func(server *Conn, err error) {
			if err != nil {
				t.Error(err)
				client.Reset()
				return
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.over.Add(1)
			f.relays = append(f.relays, NewRelay(client, server, RelayOptions{}, &f.counters, func(error) { f.over.Done() }))
			f.more.Signal()
		})
	}})
	t.Cleanup(func() {
		back.Close()
		f.over.Wait()
		serving.Wait()
	})
	return f
}

// exchange sends what seed stands for and checks that what comes is what the other side's seed stands for; each side reads and
// writes at its own pace, and ends when it has said all.
func exchange(conn *net.TCPConn, mine, theirs uint64) error {
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	sending := make(chan error, 1)
	go func() {
		_, err := io.Copy(struct{ io.Writer }{conn}, &stream{seed: mine})
		sending <- errors.Join(err, conn.CloseWrite())
	}()
	want, pace := &stream{seed: theirs}, rand.New(rand.NewPCG(mine, theirs))
	got, expected := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		// Small reads of much data are slow reads.
		n, err := conn.Read(got[:1+pace.IntN(1<<pace.IntN(17))])
		if _, short := io.ReadFull(want, expected[:n]); short != nil || !bytes.Equal(got[:n], expected[:n]) {
			return fmt.Errorf("of stream %d comes what was not sent, %v", theirs, short)
		}
		if errors.Is(err, io.EOF) {
			if want.left() > 0 {
				err = fmt.Errorf("stream %d ends %d bytes early", theirs, want.left())
			} else {
				err = nil
			}
			return errors.Join(err, <-sending)
		}
		if err != nil {
			return errors.Join(err, <-sending)
		}
	}
}

// stream is a seed's bytes: up to some MiB, often few or none.
type stream struct {
	seed   uint64
	size   int
	source *rand.ChaCha8
	pieces *rand.Rand
}

func (s *stream) left() int {
	if s.source == nil {
		var key [32]byte
		binary.LittleEndian.PutUint64(key[:], s.seed)
		s.source, s.pieces = rand.NewChaCha8(key), rand.New(rand.NewPCG(s.seed, 0))
		s.size = s.pieces.IntN(1 << s.pieces.IntN(23))
	}
	return s.size
}

func (s *stream) Read(p []byte) (int, error) {
	n := min(s.left(), len(p), 1+s.pieces.IntN(1<<s.pieces.IntN(21)))
	if n == 0 {
		return 0, io.EOF
	}
	s.size -= n
	_, _ = s.source.Read(p[:n])
	return n, nil
}

// Both directions of many connections at once, in pieces of all sizes and at all paces, and each ends when it has said all.
func TestManyRelaysLoseNothing(t *testing.T) {
	const clients, each = 40, 8
	f := forward(t, func(conn *net.TCPConn) {
		var seed [8]byte
		if _, err := io.ReadFull(conn, seed[:]); err != nil {
			t.Error(err)
			return
		}
		mine := binary.LittleEndian.Uint64(seed[:])
		if err := exchange(conn, mine, mine+1); err != nil {
			t.Error(err)
		}
	})
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for j := range each {
				seed := uint64(i*each+j) * 2
				conn := dialPort(t, f.port)
				if seed%3 == 0 {
					if err := errors.Join(conn.SetReadBuffer(128<<10), conn.SetWriteBuffer(128<<10)); err != nil {
						t.Error(err)
					}
				}
				var hello [8]byte
				binary.LittleEndian.PutUint64(hello[:], seed)
				if _, err := conn.Write(hello[:]); err != nil {
					t.Error(err)
				}
				if err := exchange(conn, seed+1, seed); err != nil {
					t.Error(err)
				}
				conn.Close()
			}
		})
	}
	wg.Wait()
}

// Everything ends, once, and leaves no descriptor behind, whoever breaks a connection while data flows: a client, a server, or
// the relay's owner.
func TestRelaysThatBreak(t *testing.T) {
	const clients, each = 16, 20
	// Whatever is opened once, for the first connection, is open before.
	relayed(t)
	before, _ := openFiles(t)
	serve := func(conn *net.TCPConn) {
		block := make([]byte, 100_000)
		sending := make(chan struct{})
		go func() {
			defer close(sending)
			for {
				if _, err := conn.Write(block); err != nil {
					return
				}
			}
		}()
		n, _ := io.CopyN(io.Discard, conn, rand.Int64N(2<<20))
		if n%2 == 0 {
			_ = conn.SetLinger(0)
		}
		conn.Close()
		<-sending
	}
	t.Run("storm", func(t *testing.T) {
		f := forward(t, serve)
		stop := make(chan struct{})
		var cutting sync.WaitGroup
		cutting.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				f.mu.Lock()
				if n := len(f.relays); n > 0 {
					f.relays[rand.IntN(n)].Reset(nil)
				}
				f.mu.Unlock()
			}
		})
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for range each {
					conn, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(f.port)})
					if errors.Is(err, unix.ECONNRESET) {
						continue // cut before it knew that it was connected
					}
					if err != nil {
						t.Error(err)
						return
					}
					sending := make(chan struct{})
					go func() {
						defer close(sending)
						_, _ = io.CopyN(conn, endless{}, 1<<20)
					}()
					_, _ = io.CopyN(io.Discard, conn, rand.Int64N(2<<20))
					if rand.IntN(2) == 0 {
						_ = conn.SetLinger(0)
					}
					conn.Close()
					<-sending
				}
			})
		}
		wg.Wait()
		close(stop)
		cutting.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		for len(f.relays) < clients*each {
			f.more.Wait() // for those that had gone before they were accepted
		}
	})
	if after, pipes := openFiles(t); after-pipes > before {
		t.Errorf("%d descriptors were open before, %d and %d of pipes are now", before, after-pipes, pipes)
	}
	var connections int64
	for _, l := range *loops.list.Load() {
		connections += l.load.Load()
	}
	if connections != 1 {
		t.Errorf("the loops count %d connections, one is left", connections)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// Descriptors are used again at once when connections come and go: none gets what another one was sent.
func TestDescriptorsUsedAgain(t *testing.T) {
	const clients, each = 32, 100
	f := forward(t, func(conn *net.TCPConn) { _, _ = io.Copy(struct{ io.Writer }{conn}, conn) })
	var wg sync.WaitGroup
	var failed atomic.Bool
	for i := range clients {
		wg.Go(func() {
			for j := range each {
				conn := dialPort(t, f.port)
				word := fmt.Appendf(nil, "client %d, connection %d", i, j)
				if _, err := conn.Write(word); err != nil {
					t.Error(err)
				}
				got := make([]byte, len(word))
				if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, word) {
					failed.Store(true)
					t.Errorf("got %q, %v, want %q", got, err, word)
				}
				if j%2 == 0 {
					_ = conn.SetLinger(0)
				}
				conn.Close()
				if failed.Load() {
					return
				}
			}
		})
	}
	wg.Wait()
}

// Thousands of connections are idle while some talk, and each of them still works when its time comes.
func TestIdleConnections(t *testing.T) {
	const idle = 2000
	f := forward(t, func(conn *net.TCPConn) { _, _ = io.Copy(struct{ io.Writer }{conn}, conn) })
	conns := make([]*net.TCPConn, idle)
	for i := range conns {
		conns[i] = dialPort(t, f.port)
	}
	for range 2 {
		for i, conn := range conns {
			word := fmt.Appendf(nil, "%d", i)
			if _, err := conn.Write(word); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(word))
			if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, word) {
				t.Fatalf("got %q, %v, want %q", got, err, word)
			}
		}
	}
	for _, conn := range conns {
		conn.Close()
	}
	f.over.Wait()
	if in, out := f.counters.In.Load(), f.counters.Out.Load(); in != out || in == 0 {
		t.Errorf("counted %d and %d bytes of an echo", in, out)
	}
}
