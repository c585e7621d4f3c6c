package enginetest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"dokku-expose/deploy"
)

// streaming is about what goes through a connection.
var streaming = []testCase{
	{"the client ends first", func(b *bench) {
		listen := b.port()
		b.apply(route("mail", listen, proven(NewServer(b, "v1"))...))
		c := dial(b, local(listen))
		c.greeting()
		c.write("last words\n")
		if err := c.conn.CloseWrite(); err != nil {
			b.Fatal(err)
		}
		rest, err := io.ReadAll(c.lines)
		if want := "last words\ngoodbye from v1\n"; err != nil || string(rest) != want {
			b.Errorf("got %q and %v, want %q", rest, err, want)
		}
	}},
	{"the server ends first", func(b *bench) {
		listen, heard := b.port(), make(chan string, 1)
		v1 := talker(b, "v1", func(conn *net.TCPConn) {
			if _, err := conn.Write([]byte("all of it\n")); err != nil {
				b.Error(err)
			}
			if err := conn.CloseWrite(); err != nil {
				b.Error(err)
			}
			words, err := io.ReadAll(conn)
			if err != nil {
				b.Error(err)
			}
			heard <- string(words)
		})
		b.apply(unchecked(listen, v1))
		c := dial(b, local(listen))
		if rest, err := io.ReadAll(c.lines); err != nil || string(rest) != "all of it\n" {
			b.Errorf("got %q and %v", rest, err)
		}
		c.write("thank ")
		c.write("you")
		if err := c.conn.CloseWrite(); err != nil {
			b.Fatal(err)
		}
		if got := <-heard; got != "thank you" {
			b.Errorf("the server heard %q", got)
		}
	}},
	{"a client's reset is the end for the server", func(b *bench) {
		listen, greeted, ended := b.port(), make(chan bool), make(chan error, 1)
		v1 := talker(b, "v1", func(conn *net.TCPConn) {
			greeted <- true
			_, err := io.Copy(io.Discard, conn)
			ended <- err
		})
		b.apply(unchecked(listen, v1))
		c := dial(b, local(listen))
		<-greeted
		c.reset()
		if err := <-ended; err != nil && !errors.Is(err, syscall.ECONNRESET) {
			b.Error(err)
		}
	}},
	{"a server's reset is the end for the client, and for no other one", func(b *bench) {
		listen := b.port()
		v1 := talker(b, "v1", func(conn *net.TCPConn) {
			word := make([]byte, len("echo"))
			for {
				if _, err := io.ReadFull(conn, word); err != nil {
					return // The client has gone.
				}
				if string(word) == "stop" {
					if err := conn.SetLinger(0); err != nil {
						b.Error(err)
					}
					return
				}
				if _, err := conn.Write([]byte("echo\n")); err != nil {
					b.Error(err)
					return
				}
			}
		})
		b.apply(unchecked(listen, v1))
		c, other := dial(b, local(listen)), dial(b, local(listen))
		for _, c := range []*client{c, other} {
			c.write("echo")
			c.line()
		}
		c.write("stop")
		c.closed()
		other.write("echo")
		other.line()
	}},
	{"much data comes through as it was sent", func(b *bench) {
		listen := b.port()
		b.apply(route("mail", listen, proven(NewServer(b, "v1"))...))
		c := dial(b, local(listen))
		c.greeting()
		data := make([]byte, 16<<20)
		_, _ = rand.Read(data)
		data = bytes.ReplaceAll(data, []byte("\n"), []byte("."))
		for i := 1 << 10; i < len(data); i += 1 << 10 {
			data[i] = '\n'
		}
		data[len(data)-1] = '\n'
		var sending sync.WaitGroup
		sending.Go(func() {
			if _, err := c.conn.Write(data); err != nil {
				b.Error(err)
			}
		})
		got := make([]byte, len(data))
		if _, err := io.ReadFull(c.lines, got); err != nil {
			b.Error(err)
		}
		sending.Wait()
		if !bytes.Equal(got, data) {
			b.Error("the data came back changed")
		}
	}},
}

// unchecked is a route to a talker, which takes a health check for a client.
func unchecked(listen deploy.Key, s *Server) deploy.Route {
	r := route("mail", listen, proven(s)...)
	r.HealthCheck = 0
	return r
}

// talker is a server that has its connections talk.
func talker(b *bench, name string, talk func(*net.TCPConn)) *Server {
	b.Helper()
	s := Reserve(b, name)
	s.talk = func(conn net.Conn) { talk(conn.(*net.TCPConn)) }
	s.Listen()
	return s
}

// stalling is about peers that do not read. A write of TLS that has timed out can't be gone on with: it has no such clients.
var stalling = []testCase{
	{"a slow reader slows down who sends", func(b *bench) {
		const most = 256 << 20
		listen := b.port()
		sent, read := make(chan int, 1), make(chan bool)
		v1 := talker(b, "v1", func(conn *net.TCPConn) {
			// The kernel makes buffers larger for who reads fast: this one is not to have read anything.
			n := sendUntilStuck(b, conn, most)
			sent <- n
			if n >= most {
				return
			}
			<-read
			got, err := io.Copy(io.Discard, conn)
			if err != nil {
				b.Error(err)
			}
			sent <- int(got)
		})
		b.apply(unchecked(listen, v1))
		c := dial(b, local(listen))
		n := <-sent
		if n >= most {
			b.Fatalf("%d bytes were taken for a client that reads nothing", n)
		}
		m := sendUntilStuck(b, c.conn, most)
		if m >= most {
			b.Fatalf("%d bytes were taken for a server that reads nothing", m)
		}
		// Reading makes both go on, and nothing is missing.
		close(read)
		if _, err := io.CopyN(io.Discard, c.lines, int64(n)); err != nil {
			b.Error(err)
		}
		if err := c.conn.CloseWrite(); err != nil {
			b.Error(err)
		}
		if got := <-sent; got != m {
			b.Errorf("%d of %d bytes arrived", got, m)
		}
		c.closed()
	}},
}

// sendUntilStuck sends to somebody who does not read, and returns how many bytes went off: most when there seems to be no end.
func sendUntilStuck(b *bench, conn net.Conn, most int) (sent int) {
	block := make([]byte, 64<<10)
	for sent < most {
		// Stuck is when a second does not suffice for one block; on a slow machine the sum is then only smaller.
		if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			b.Error(err)
			return sent
		}
		n, err := conn.Write(block)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			b.Error(err)
			return sent
		}
	}
	return sent
}
