package tcp

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const idleTimeout = 200 * time.Millisecond

// stallTimeout is for what is to begin to move before it: a busy machine may take longer than idleTimeout for that.
const stallTimeout = time.Second

// swept is how many relays are looked after, and how many sweeps there are for idleTimeout.
func swept() (relays, sweeps int) {
	for _, l := range *loops.list.Load() {
		l.do(func() {
			for by, s := range l.sweeps {
				relays += len(s.relays)
				if by.idle == idleTimeout {
					sweeps++
				}
			}
		})
	}
	return relays, sweeps
}

func TestIdleRelayEnds(t *testing.T) {
	began := time.Now()
	p := relayedOn(t, RelayOptions{IdleTimeout: idleTimeout}, func(*Conn) {})
	if err := <-p.ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if after := time.Since(began); after < idleTimeout {
		t.Errorf("it ended after %s", after)
	}
	for _, c := range []*net.TCPConn{p.client, p.server} {
		if n, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %d bytes, %v, want the end", n, err)
		}
	}
}

// What one side did not take must not seem to be all that there was.
func TestIdleRelayWithSomethingLeft(t *testing.T) {
	for _, d := range directions {
		t.Run(d.name, func(t *testing.T) {
			p := relayedOn(t, RelayOptions{IdleTimeout: stallTimeout}, func(*Conn) {})
			from, to := d.ends(p)
			// It ends in the middle of this.
			_, _ = from.Write(make([]byte, 64<<20))
			if err := <-p.ended; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("it ended with %v", err)
			}
			if n, err := io.Copy(io.Discard, to); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("got %d bytes, %v, want a reset", n, err)
			}
		})
	}
}

// A half-closed relay has a time of its own, but not while one side does not take what there is for it.
func TestHalfClosedRelay(t *testing.T) {
	const never = time.Hour
	for _, c := range []struct {
		name    string
		options RelayOptions
		stalled bool
		err     error
	}{
		{"idle", RelayOptions{HalfClosedTimeout: idleTimeout}, false, nil},
		{"idle, for less than others may be", RelayOptions{IdleTimeout: never, HalfClosedTimeout: idleTimeout}, false, nil},
		{"idle, for as long as others may be", RelayOptions{IdleTimeout: idleTimeout, HalfClosedTimeout: never}, false, nil},
		{"stalled, for as long as others may be", RelayOptions{IdleTimeout: 2 * stallTimeout, HalfClosedTimeout: stallTimeout}, true, os.ErrDeadlineExceeded},
	} {
		for _, d := range directions {
			t.Run(c.name+"/"+d.name, func(t *testing.T) {
				p := relayedOn(t, c.options, func(*Conn) {})
				to, from := d.ends(p)
				if err := to.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if c.stalled {
					_, _ = from.Write(make([]byte, 64<<20))
				}
				if err := <-p.ended; !errors.Is(err, c.err) {
					t.Errorf("it ended with %v, want %v", err, c.err)
				}
			})
		}
	}
	t.Run("stalled, which may last", func(t *testing.T) {
		// Long enough for a busy machine to move a byte in that time once the client reads again.
		const timeout = 10 * idleTimeout
		p, clock := relayedOn(t, RelayOptions{HalfClosedTimeout: timeout}, func(*Conn) {}), relayedOn(t, RelayOptions{IdleTimeout: 2 * timeout}, func(*Conn) {})
		if err := p.client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		const size = 64 << 20
		sent := make(chan error, 1)
		go func() {
			_, err := p.server.Write(make([]byte, size))
			sent <- errors.Join(err, p.server.CloseWrite())
		}()
		<-clock.ended
		if n, err := io.Copy(io.Discard, p.client); n != size || err != nil {
			t.Errorf("got %d of %d bytes, %v", n, size, err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

// Nothing is left of relays that have ended, nor of sweeps without any.
func TestSweepsGo(t *testing.T) {
	var pairs []*pair
	for i := range 20 {
		pairs = append(pairs, relayedOn(t, RelayOptions{IdleTimeout: time.Hour + time.Duration(i%2)}, func(*Conn) {}))
	}
	pairs = append(pairs, relayedOn(t, RelayOptions{IdleTimeout: idleTimeout}, func(*Conn) {}), relayed(t))
	for i, p := range pairs {
		if i%3 > 0 {
			continue
		}
		p.relay.Reset(nil)
		<-p.ended
	}
	<-pairs[20].ended
	if relays, sweeps := swept(); relays != 13 || sweeps > 0 {
		t.Errorf("%d relays are looked after, want 13; %d sweeps without any", relays, sweeps)
	}
	for i, p := range pairs {
		if i%3 > 0 && i != 20 {
			p.relay.Reset(nil)
			<-p.ended
		}
	}
	if n, _ := swept(); n != 0 {
		t.Errorf("%d relays are looked after, want none", n)
	}
}

// An idle connection is to be cheap: the next size that the runtime has is a fifth more.
func TestRelayIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Relay{}); size > 240 {
		t.Errorf("a relay has %d bytes", size)
	}
}
