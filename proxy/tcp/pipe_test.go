package tcp

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net"
	"testing"
)

// inUse are the pipes that are lent.
func (p *pipePool) inUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open - len(p.idle)
}

// What comes faster than it is taken goes through a pipe, and past the process. When there is none left, it is copied.
func TestBulkIsSpliced(t *testing.T) {
	const size = 32 << 20
	test := func(t *testing.T, from, to *net.TCPConn, want int) {
		t.Helper()
		type result struct {
			sum []byte
			err error
		}
		sent := make(chan result, 1)
		go func() {
			sum, err := noise(from, 1, size)
			if err == nil {
				err = from.CloseWrite()
			}
			sent <- result{sum, err}
		}()
		// Who reads is always behind, so that something is on its way each time.
		if err := to.SetReadBuffer(64 << 10); err != nil {
			t.Fatal(err)
		}
		got, n, most := sha256.New(), int64(0), 0
		for {
			more, err := io.CopyN(got, to, 64<<10)
			n += more
			most = max(most, pipes.inUse())
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if n != size || most != want {
			t.Errorf("%d of %d bytes arrived, with %d pipes, want %d", n, size, most, want)
		}
		if r := <-sent; r.err != nil || !bytes.Equal(got.Sum(nil), r.sum) {
			t.Errorf("what arrived is not what was sent, %v", r.err)
		}
	}
	t.Run("a pipe", func(t *testing.T) {
		eachWay(t, func(t *testing.T, _ *pair, from, to *net.TCPConn) { test(t, from, to, 1) })
	})
	t.Run("no pipe left", func(t *testing.T) {
		var all []*pipe
		for got := pipes.get(); got != nil; got = pipes.get() {
			all = append(all, got)
		}
		if len(all) != maxPipes {
			t.Fatalf("there were %d pipes, want %d", len(all), maxPipes)
		}
		defer func() {
			for _, p := range all {
				pipes.put(p, true)
			}
		}()
		eachWay(t, func(t *testing.T, _ *pair, from, to *net.TCPConn) { test(t, from, to, maxPipes) })
	})
}
