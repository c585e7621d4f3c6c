package tcp

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func reset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestResetIsPassedOn(t *testing.T) {
	for _, row := range []struct {
		name   string
		before func(t *testing.T, from, to *net.TCPConn)
	}{
		{"idle", func(*testing.T, *net.TCPConn, *net.TCPConn) {}},
		{"after data", func(t *testing.T, from, to *net.TCPConn) {
			if _, err := from.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(to, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
		}},
		{"after the other side's end", func(t *testing.T, from, to *net.TCPConn) {
			if err := to.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := from.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, p *pair, from, to *net.TCPConn) {
				row.before(t, from, to)
				reset(t, from)
				if _, err := to.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("the other side sees %v, want a reset", err)
				}
				if err := <-p.ended; !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("the relay ended with %v, want a reset", err)
				}
			})
		})
	}
}

// A peer that resets because it got what it did not want (a mail server that says "421" and closes with input unread) has
// said something before. Who goes on sending must still get to read that, and then see the reset, whichever of the two
// directions notices it first.
func TestLastWordsBeforeAReset(t *testing.T) {
	for range 50 {
		eachWay(t, func(t *testing.T, p *pair, from, to *net.TCPConn) {
			sending := make(chan struct{})
			go func() {
				defer close(sending)
				for {
					if _, err := to.Write([]byte("more\n")); err != nil {
						return
					}
				}
			}()
			if _, err := from.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if _, err := from.Write([]byte("421 bye")); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 7)
			if _, err := io.ReadFull(to, got); err != nil || string(got) != "421 bye" {
				t.Fatalf("got %q, %v", got, err)
			}
			if err := from.Close(); err != nil { // with unread input: a reset
				t.Fatal(err)
			}
			_, err := to.Read(make([]byte, 1))
			<-sending
			// The sender's own write may have taken the news of the reset; what it may not see is an orderly end only.
			if errors.Is(err, io.EOF) {
				if state, err := stateOf(to); err != nil || state != stateClose {
					t.Errorf("the other side sees an orderly end (state %d, %v)", state, err)
				}
			} else if !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the other side sees %v, want a reset", err)
			}
			if err := <-p.ended; err == nil {
				t.Errorf("the relay took it for an orderly end")
			}
		})
	}
}

// stateClose is TCP_CLOSE of the kernel's include/net/tcp_states.h.
const stateClose = 7

func stateOf(c *net.TCPConn) (state uint8, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	return state, control(raw, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			state = info.State
		}
		return err
	})
}

// A side that has said its last, and is reset while it should listen, is not waited for until the other one writes to it.
func TestResetAfterItsOwnEnd(t *testing.T) {
	eachWay(t, func(t *testing.T, p *pair, from, to *net.TCPConn) {
		if err := from.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		reset(t, from)
		if err := <-p.ended; !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the relay ended with %v, want a reset", err)
		}
		if _, err := to.Write([]byte("answer")); !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the other side's answer is sent with %v, want a broken connection", err)
		}
	})
}

// What the owner of a relay resets ends on both sides as a reset, and ends the relay.
func TestRelayEndsFromOutside(t *testing.T) {
	p := relayed(t)
	p.relay.Reset(nil)
	for name, c := range map[string]*net.TCPConn{"client": p.client, "server": p.server} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the %s sees %v, want a reset", name, err)
		}
	}
	if err := <-p.ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("the relay ended with %v, want %v", err, os.ErrClosed)
	}
}
