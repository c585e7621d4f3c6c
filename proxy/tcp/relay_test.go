package tcp

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is a relay with a client and a server on both sides of it, in the hands of the test.
type pair struct {
	client, server *net.TCPConn
	relay          *Relay
	counters       Counters
	ended          chan error
}

func relayed(t *testing.T) *pair {
	t.Helper()
	return relayedOn(t, RelayOptions{}, func(*Conn) {})
}

// relayedOn prepares the connection to the server first.
func relayedOn(t *testing.T, options RelayOptions, prepare func(server *Conn)) *pair {
	t.Helper()
	back, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	front, port := listen(t)
	clients := make(chan *Conn, 1)
	front.Serve(&acceptor{t: t, accepted: func(c *Conn) { clients <- c }})

	p := &pair{client: dialPort(t, port), ended: make(chan error, 1)}
	client := <-clients
	if err := front.Close(); err != nil {
		t.Fatal(err)
	}
	server, err := dialed(t.Context(), back.Addr().(*net.TCPAddr).AddrPort(), time.Minute, 0)
	if err != nil {
		t.Fatal(err)
	}
	if p.server, err = back.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	prepare(server)
	over := make(chan struct{})
	p.relay = NewRelay(client, server, options, &p.counters, func(err error) {
		p.ended <- err
		close(over)
	})
	deadline := time.Now().Add(time.Minute)
	for _, c := range []*net.TCPConn{p.client, p.server} {
		if err := c.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		p.client.Close()
		p.server.Close()
		p.relay.Reset(nil)
		<-over
	})
	return p
}

// directions are the two ways through a relay.
var directions = []struct {
	name string
	// ends are the one that sends, and the one that receives.
	ends func(*pair) (from, to *net.TCPConn)
}{
	{"client to server", func(p *pair) (from, to *net.TCPConn) { return p.client, p.server }},
	{"server to client", func(p *pair) (from, to *net.TCPConn) { return p.server, p.client }},
}

func eachWay(t *testing.T, test func(t *testing.T, p *pair, from, to *net.TCPConn)) {
	t.Helper()
	for _, d := range directions {
		t.Run(d.name, func(t *testing.T) {
			p := relayed(t)
			from, to := d.ends(p)
			test(t, p, from, to)
		})
	}
}

// noise sends n bytes, in pieces of all sizes, and returns their sum.
func noise(w io.Writer, seed uint64, n int) ([]byte, error) {
	sum := sha256.New()
	source := rand.NewChaCha8([32]byte{byte(seed)})
	sizes := rand.New(rand.NewPCG(seed, 1))
	block := make([]byte, 1<<20)
	for n > 0 {
		piece := block[:min(n, 1+sizes.IntN(1<<sizes.IntN(21)))]
		_, _ = source.Read(piece)
		sum.Write(piece)
		if _, err := w.Write(piece); err != nil {
			return nil, err
		}
		n -= len(piece)
	}
	return sum.Sum(nil), nil
}

// What goes before arrives first and whole, also where the server takes it in small pieces only.
func TestOpeningArrivesFirst(t *testing.T) {
	opening := bytes.Repeat([]byte("opening "), bufferSize/8)
	p := relayedOn(t, RelayOptions{Opening: opening}, func(server *Conn) {
		if err := unix.SetsockoptInt(server.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := p.client.Write([]byte("and more")); err != nil {
		t.Fatal(err)
	}
	if err := p.client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(p.server)
	if err != nil || string(got) != string(opening)+"and more" {
		t.Errorf("%d bytes arrived, %v", len(got), err)
	}
}

func TestEveryByteArrives(t *testing.T) {
	p := relayed(t)
	const size = 40 << 20
	var wg sync.WaitGroup
	for i, d := range directions {
		from, to := d.ends(p)
		var sent []byte
		done := make(chan struct{})
		wg.Go(func() {
			defer close(done)
			var err error
			if sent, err = noise(from, uint64(i), size); err != nil {
				t.Errorf("%s: %v", d.name, err)
			}
			if err := from.CloseWrite(); err != nil {
				t.Errorf("%s: %v", d.name, err)
			}
		})
		wg.Go(func() {
			sum := sha256.New()
			n, err := io.Copy(sum, to)
			<-done
			if err != nil || n != size || !bytes.Equal(sum.Sum(nil), sent) {
				t.Errorf("%s: %d of %d bytes arrived, the same: %v; %v", d.name, n, size, bytes.Equal(sum.Sum(nil), sent), err)
			}
		})
	}
	wg.Wait()
	if err := <-p.ended; err != nil {
		t.Errorf("the relay ended with %v", err)
	}
	if in, out := p.counters.In.Load(), p.counters.Out.Load(); in != size || out != size {
		t.Errorf("counted %d and %d bytes, want %d each", in, out, size)
	}
}

func TestHalfClose(t *testing.T) {
	eachWay(t, func(t *testing.T, p *pair, from, to *net.TCPConn) {
		if _, err := from.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
		if err := from.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(to); err != nil || string(got) != "question" {
			t.Fatalf("got %q, %v", got, err)
		}
		// The end of the question is known; the answer is still to come.
		for range 3 {
			if _, err := to.Write([]byte("answer")); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len("answer"))
			if _, err := io.ReadFull(from, got); err != nil || string(got) != "answer" {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		if err := to.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := from.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("after both ends: %d, %v", n, err)
		}
		if err := <-p.ended; err != nil {
			t.Errorf("the relay ended with %v", err)
		}
	})
}

// Whoever does not read stops the other side from sending, at the sum of the buffers on the way.
func TestSlowReaderPushesBack(t *testing.T) {
	eachWay(t, func(t *testing.T, p *pair, from, to *net.TCPConn) {
		if err := from.SetWriteBuffer(64 << 10); err != nil {
			t.Fatal(err)
		}
		if err := to.SetReadBuffer(64 << 10); err != nil {
			t.Fatal(err)
		}
		block := make([]byte, 64<<10)
		sent := 0
		// What the kernel may keep of both connections, and the relay in between; the rest is for the test's own buffers.
		most := kernelBuffer(t, "tcp_rmem") + kernelBuffer(t, "tcp_wmem") + pipeSize + 1<<20
		// Stuck is when a second does not suffice for one block; on a slow machine the sum is then only smaller.
		for sent <= most {
			if err := from.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := from.Write(block)
			sent += n
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if sent > most {
			t.Fatalf("%d bytes were taken for a reader that reads nothing, want %d at the most", sent, most)
		}
		// Reading makes it go on, and nothing is missing.
		if err := from.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := from.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, to); err != nil || n != int64(sent) {
			t.Errorf("%d of %d bytes arrived, %v", n, sent, err)
		}
	})
}

// kernelBuffer is the most that the kernel keeps of one direction of a connection.
func kernelBuffer(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var least, usual, most int
	if _, err := fmt.Sscan(string(text), &least, &usual, &most); err != nil {
		t.Fatal(err)
	}
	return most
}

func openFiles(t *testing.T) (all, ofPipes int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil {
			all++
			if strings.HasPrefix(to, "pipe:") {
				ofPipes++
			}
		}
	}
	return all, ofPipes
}

// An idle connection costs two descriptors, also after it has moved so much that it took a pipe.
func TestIdleConnectionsHaveTwoFiles(t *testing.T) {
	const n = 3 * maxIdlePipes
	// Whatever is opened once, for the first connection, is open before.
	relayed(t)
	before, beforePipes := openFiles(t)
	for range n {
		p := relayed(t)
		const size = 2 << 20
		go func() { _, _ = noise(p.client, 1, size) }()
		if _, err := io.CopyN(io.Discard, p.server, size); err != nil {
			t.Fatal(err)
		}
	}
	// The flow gives its pipe back when it finds nothing more to read, just after the last byte has arrived.
	var all, ofPipes int
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		all, ofPipes = openFiles(t)
		waiting = ofPipes > beforePipes+2*maxIdlePipes
		select {
		case <-tick.C:
		case <-deadline:
			waiting = false
		}
	}
	// Two of each connection are the test's own, at its ends.
	if got := all - before - (ofPipes - beforePipes); got != 4*n {
		t.Errorf("%d connections have %d descriptors, want 2 each and the 2 of the test", n, got)
	}
	if ofPipes-beforePipes > 2*maxIdlePipes {
		t.Errorf("%d descriptors of pipes are open, want at most %d", ofPipes-beforePipes, 2*maxIdlePipes)
	}
}

// Urgent data, as telnet and FTP send it, does not hold up what comes after it. (The urgent byte itself is out of band, and gets
// lost, as in every proxy that reads the band.)
func TestUrgentData(t *testing.T) {
	for _, row := range []struct {
		name string
		size int
	}{{"a word", 4}, {"bulk", 1 << 20}} {
		t.Run(row.name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, p *pair, from, to *net.TCPConn) {
				raw, err := from.SyscallConn()
				if err != nil {
					t.Fatal(err)
				}
				piece := bytes.Repeat([]byte("."), row.size)
				for range 20 {
					sent := make(chan error, 1)
					go func() {
						_, err := from.Write(piece)
						err = errors.Join(err, control(raw, func(fd int) error {
							return unix.Sendto(fd, []byte("!"), unix.MSG_OOB, nil)
						}))
						_, writeErr := from.Write(piece)
						sent <- errors.Join(err, writeErr)
					}()
					got := make([]byte, 2*row.size)
					if _, err := io.ReadFull(to, got); err != nil {
						t.Fatal(err)
					}
					if err := <-sent; err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}
