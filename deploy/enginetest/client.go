package enginetest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/internal/wait"
)

// client is one connection to a public address.
type client struct {
	t     testing.TB
	conn  stream
	lines *bufio.Reader
	// tcp is below conn, or conn itself.
	tcp *net.TCPConn
}

// stream is a connection that can end on one side.
type stream interface {
	net.Conn
	CloseWrite() error
}

// dial connects to a public address.
func dial(t testing.TB, addr netip.AddrPort) *client {
	t.Helper()
	c, err := tryDial(t, addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryDial(t testing.TB, addr netip.AddrPort) (*client, error) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr.String(), wait.Patience)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(wait.Patience)); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, conn.(*net.TCPConn))
	if b, ok := t.(*bench); ok && b.cert != nil {
		return c, c.secure(b.cert.client)
	}
	return c, nil
}

func newClient(t testing.TB, conn *net.TCPConn) *client {
	return &client{t: t, conn: conn, lines: bufio.NewReader(conn), tcp: conn}
}

// line reads one line.
func (c *client) line() string {
	c.t.Helper()
	line, err := c.lines.ReadString('\n')
	if err != nil {
		c.t.Fatalf("reading a line: %v", err)
	}
	return strings.TrimSuffix(line, "\n")
}

// greeting reads the greeting and returns the server's name.
func (c *client) greeting() string {
	c.t.Helper()
	name, _, _ := strings.Cut(c.line(), " ")
	return name
}

// echo has a line echoed.
func (c *client) echo(line string) {
	c.t.Helper()
	c.write(line + "\n")
	if got := c.line(); got != line {
		c.t.Fatalf("%q came back as %q", line, got)
	}
}

func (c *client) write(s string) {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(s)); err != nil {
		c.t.Fatal(err)
	}
}

// closed waits until the other side closes, before it has said anything.
func (c *client) closed() {
	c.t.Helper()
	line, err := c.lines.ReadString('\n')
	if line != "" || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		c.t.Fatalf("got %q and %v, want a closed connection", line, err)
	}
}

// reset ends the connection with a reset.
func (c *client) reset() {
	c.t.Helper()
	if err := errors.Join(c.tcp.SetLinger(0), c.tcp.Close()); err != nil {
		c.t.Fatal(err)
	}
}

// greeted is the name of who answers at addr.
func greeted(t testing.TB, addr netip.AddrPort) string {
	t.Helper()
	c := dial(t, addr)
	defer c.conn.Close()
	return c.greeting()
}

// refused fails the test when somebody listens at addr.
func refused(t testing.TB, addr netip.AddrPort) {
	t.Helper()
	c, err := tryDial(t, addr)
	if err == nil {
		_ = c.conn.Close()
		t.Fatalf("%s is listened on", addr)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatal(err)
	}
}

// local is where a test's client finds a public address.
func local(l deploy.Key) netip.AddrPort {
	ip := l.IP
	if !ip.IsValid() || ip == netip.IPv4Unspecified() {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	} else if ip.IsUnspecified() {
		ip = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(ip, l.Port)
}
