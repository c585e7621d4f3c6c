package tcp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

var errNoLine = errors.New("no line")

// line is a head that ends with a newline, and has no "!" in it.
func line(b []byte) (length int, complete bool, err error) {
	if bytes.IndexByte(b, '!') >= 0 {
		return 0, false, errNoLine
	}
	length = bytes.IndexByte(b, '\n') + 1
	return length, length > 0, nil
}

func TestReadHead(t *testing.T) {
	for _, row := range []struct {
		name string
		// says are written one after the other, each when what came before has been looked at.
		says []string
		// half ends what the client sends.
		half    bool
		timeout time.Duration
		want    error
		// rest is what can be read afterwards.
		rest string
	}{
		{name: "alone", says: []string{"head\n"}},
		{name: "with what follows", says: []string{"head\nand more\n"}, rest: "and more\n"},
		{name: "in pieces", says: []string{"h", "e", "ad", "\na", "nd more"}, rest: "a"},
		{name: "with the end", says: []string{"head\nlast words"}, half: true, rest: "last words"},
		{name: "none", says: []string{"head!"}, want: errNoLine},
		{name: "none, in the end", says: []string{"he", "ad", "!"}, want: errNoLine},
		{name: "nothing, and the end", half: true, want: io.ErrUnexpectedEOF},
		{name: "half of it, and the end", says: []string{"he", "ad"}, half: true, want: io.ErrUnexpectedEOF},
		{name: "nothing in time", timeout: time.Millisecond, want: os.ErrDeadlineExceeded},
		{name: "half of it in time", says: []string{"head"}, timeout: 100 * time.Millisecond, want: os.ErrDeadlineExceeded},
		{name: "too long", says: []string{strings.Repeat("head", MaxHead)}, want: errHeadTooLong},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, port := listen(t)
			type result struct {
				conn *Conn
				err  error
			}
			read, looked := make(chan result, 1), make(chan int, 100)
			timeout := row.timeout
			if timeout == 0 {
				timeout = time.Minute
			}
			l.Serve(&acceptor{t: t, accepted: func(c *Conn) {
				c.ReadHead(timeout, func(b []byte) (int, bool, error) {
					looked <- len(b)
					return line(b)
				}, func(err error) { read <- result{c, err} })
			}})
			client := dialPort(t, port)
			said := 0
			for _, s := range row.says {
				if _, err := client.Write([]byte(s)); err != nil {
					t.Fatal(err)
				}
				said += len(s)
				for n := 0; n < min(said, MaxHead); {
					n = <-looked
				}
				if n, _, _ := line([]byte(s)); n > 0 {
					break
				}
			}
			if row.half {
				if err := client.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			r := <-read
			if !errors.Is(r.err, row.want) {
				t.Errorf("got %v, want %v", r.err, row.want)
			}
			if r.err != nil {
				r.conn.Reset()
				return
			}
			if got := relayRest(t, r.conn, client); got != row.rest {
				t.Errorf("the rest is %q, want %q", got, row.rest)
			}
		})
	}
}

// relayRest is all that a server gets of what the client still had to say.
func relayRest(t *testing.T, conn *Conn, client *net.TCPConn) string {
	t.Helper()
	back, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	server, err := dialed(t.Context(), back.Addr().(*net.TCPAddr).AddrPort(), time.Minute, 0)
	if err != nil {
		t.Fatal(err)
	}
	end, err := back.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	NewRelay(conn, server, RelayOptions{}, new(Counters), func(error) { close(over) })
	_ = client.CloseWrite()
	rest, err := io.ReadAll(end)
	if err != nil {
		t.Error(err)
	}
	end.Close()
	<-over
	return string(rest)
}
