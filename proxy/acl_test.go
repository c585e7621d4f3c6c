package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/proxytest"
)

// Nothing is left of those that are turned away, nor of a proxy that never says whose connection it brings.
func TestTurnedAway(t *testing.T) {
	for _, row := range []struct {
		name, options, says string
		// before are connections that are let in.
		before int
	}{
		{"not allowed", "allow=10.0.0.0/8", "", 0},
		{"too often", "rate=2/10s", "", 2},
		{"without a header", "accept-proxy=127.0.0.1", "EHLO example.org\r\n", 0},
		{"from a proxy, not allowed", "accept-proxy=127.0.0.1 allow=127.0.0.1", "PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n", 0},
		{"a proxy that is silent", "accept-proxy=127.0.0.1", "", 0},
		{"a proxy that stops in the middle", "accept-proxy=127.0.0.1", "PROXY TCP4 192.0.2.7", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s, r := newServer(t), proxytest.RouteTo("mail", enginetest.FreePort(t), enginetest.NewServer(t, "v1"))
			var err error
			if r.Options, err = deploy.ParseOptions(row.options); err != nil {
				t.Fatal(err)
			}
			proxytest.Apply(t, s, r)
			for range row.before {
				c := proxytest.Dial(t, r.Key.Port)
				c.Greeting()
				c.Conn.Close()
			}
			if err := talk(r.Key.Port, row.says); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("it ends with %v", err)
			}
			wait.Until(t, "nothing is left", func() bool { return s.Connections() == 0 })
			if total := proxytest.Observe(t, s).Routes[0].Total; total != uint64(row.before) {
				t.Errorf("the container had %d connections, want %d", total, row.before)
			}
		})
	}
}

// talk says something at a public port, where nothing is to be heard, and tells how it ends. It may do so at any point.
func talk(port uint16, says string) error {
	conn, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", port), proxytest.Patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(proxytest.Patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(says)); err != nil {
		return err
	}
	n, err := conn.Read(make([]byte, 1))
	if n > 0 {
		return errors.New("there is something to read")
	}
	return err
}
