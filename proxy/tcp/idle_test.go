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

// swept is how many relays are looked after, and how many sweeps there are for idleTimeout.
func swept() (relays, sweeps int) {
	for _, l := range *loops.list.Load() {
		l.do(func() {
			for timeout, s := range l.sweeps {
				relays += len(s.relays)
				if timeout == idleTimeout {
					sweeps++
				}
			}
		})
	}
	return relays, sweeps
}

func TestIdleRelayEnds(t *testing.T) {
	began := time.Now()
	p := relayedOn(t, Terms{IdleTimeout: idleTimeout}, func(*Conn) {})
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
			p := relayedOn(t, Terms{IdleTimeout: idleTimeout}, func(*Conn) {})
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

// Nothing is left of relays that have ended, nor of sweeps without any.
func TestSweepsGo(t *testing.T) {
	var pairs []*pair
	for i := range 20 {
		pairs = append(pairs, relayedOn(t, Terms{IdleTimeout: time.Hour + time.Duration(i%2)}, func(*Conn) {}))
	}
	pairs = append(pairs, relayedOn(t, Terms{IdleTimeout: idleTimeout}, func(*Conn) {}), relayed(t))
	for i, p := range pairs {
		if i%3 > 0 {
			continue
		}
		p.relay.Reset()
		<-p.ended
	}
	<-pairs[20].ended
	if relays, sweeps := swept(); relays != 13 || sweeps > 0 {
		t.Errorf("%d relays are looked after, want 13; %d sweeps without any", relays, sweeps)
	}
	for i, p := range pairs {
		if i%3 > 0 && i != 20 {
			p.relay.Reset()
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
