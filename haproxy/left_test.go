package haproxy_test

import (
	"bufio"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/testcert"
	"dokku-expose/internal/wait"
)

// halting is a connection that keeps the rest of what is written back, all but the first byte, until go on is closed.
type halting struct {
	net.Conn
	goOn <-chan struct{}
}

func (c *halting) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b[:1])
	if err != nil {
		return n, err
	}
	<-c.goOn
	m, err := c.Conn.Write(b[1:])
	return n + m, err
}

// A client whose name a former worker reads gets to the port's one route that there is by then, if that one lets it in.
func TestClientsOfFormerNamesAreAdmitted(t *testing.T) {
	cert := testcert.New(t, time.Hour, certified)
	for _, row := range []struct {
		options string
		greeted int
	}{
		{"tls=terminate", 2}, {"tls=terminate allow=127.0.0.0/8", 2}, {"tls=terminate allow=192.0.2.1", 0}, {"tls=terminate rate=1/10s", 1},
	} {
		t.Run(row.options, func(t *testing.T) {
			t.Parallel()
			h := haproxytest.Start(t)
			listen, v1 := port(t), enginetest.NewServer(t, "v1")
			apply(t, h, named(t, "mail", listen, certified, v1, cert), named(t, "mail", listen, "other.example.com", v1, cert))
			goOn, greeted := make(chan struct{}), make(chan bool, 2)
			for range cap(greeted) {
				conn := open(t, listen)
				go func() {
					line, _ := bufio.NewReader(tls.Client(&halting{conn, goOn}, cert.Client)).ReadString('\n')
					greeted <- strings.HasPrefix(line, "v1")
				}()
			}
			wait.Until(t, "the worker reads what they say", func() bool { return strings.Count(command(t, h, "show sess"), "fe=names") == cap(greeted) })
			plain := withOptions(t, secured(t, listen, v1, cert), row.options)
			if applied := apply(t, h, plain); applied.Reload == "" {
				t.Fatal("no reload")
			}
			close(goOn)
			n := 0
			for range cap(greeted) {
				if <-greeted {
					n++
				}
			}
			if n != row.greeted {
				t.Errorf("%d clients are greeted, want %d", n, row.greeted)
			}
			if got := serving(t, h)[deploy.Key{IP: listen.IP, Port: listen.Port}]; got.Options != plain.Options {
				t.Errorf("serving %+v", got)
			}
		})
	}
}
