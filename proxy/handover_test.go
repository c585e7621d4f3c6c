package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/testcert"
	"dokku-expose/proxy/proxytest"
)

// filesOf are copies of sockets, as another process gets them.
func filesOf(t *testing.T, sockets ...syscall.Conn) (files []*os.File) {
	t.Helper()
	for _, socket := range sockets {
		raw, err := socket.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var fd int
		var dupErr error
		err = raw.Control(func(open uintptr) { fd, dupErr = unix.FcntlInt(open, unix.F_DUPFD_CLOEXEC, 0) })
		if err := errors.Join(err, dupErr); err != nil {
			t.Fatal(err)
		}
		files = append(files, os.NewFile(uintptr(fd), "socket"))
	}
	return files
}

// The successor accepts all new connections, the server that has retired keeps its own and follows the successor's tables.
func TestHandOver(t *testing.T) {
	v1, v2 := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2")
	mail, news := proxytest.RouteTo("mail", enginetest.FreePort(t), v1), proxytest.RouteTo("news", enginetest.FreePort(t), v1)
	before, after := newServer(t), newServer(t)
	proxytest.Apply(t, before, mail, news)
	old := proxytest.Dial(t, mail.Key.Port)
	old.Greeting()

	mine := errors.New("mine")
	if err := before.HandOver(func(deploy.Table, []syscall.Conn, []Flow) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("got %v, want the error of a successor that fails", err)
	}
	if got := proxytest.Dial(t, mail.Key.Port).Greeting(); got != "v1" || before.Retired() {
		t.Errorf("%s answered after a failed handover, retired is %t", got, before.Retired())
	}
	proxytest.Apply(t, before, mail)

	err := before.HandOver(func(table deploy.Table, sockets []syscall.Conn, _ []Flow) error {
		if len(table.Routes) != 1 || len(sockets) != 1 {
			t.Errorf("got %d sockets for %+v, want one for the only route", len(sockets), table)
		}
		return after.TakeOver(table, nil, filesOf(t, sockets...))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := before.Apply(t.Context(), deploy.Table{}); !errors.Is(err, ErrSuperseded) {
		t.Errorf("a table is answered with %v", err)
	}
	if err := before.HandOver(func(deploy.Table, []syscall.Conn, []Flow) error { return nil }); !errors.Is(err, ErrSuperseded) {
		t.Errorf("another handover is answered with %v", err)
	}
	if before.Retire() || len(before.Table().Routes) == 0 {
		t.Error("it has not retired, or has forgotten its table")
	}
	kept := before.Connections()
	for range 3 {
		proxytest.Dial(t, mail.Key.Port).Greeting()
	}
	if n := after.Connections(); n != 3 || before.Connections() != kept {
		t.Errorf("the successor has %d of 3 new connections", n)
	}
	if servers := after.Table().Routes[0].Servers; !slices.Equal(servers, mail.Servers) {
		t.Errorf("the successor serves %+v, want %+v", servers, mail.Servers)
	}
	old.Echo()
	mail.Servers, mail.CutOld = proxytest.RouteTo("mail", 1, v2).Servers, time.Nanosecond
	before.Follow(deploy.Table{Routes: []deploy.Route{mail}})
	if err := old.AwaitEnd(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the old connection ended with %v, want a reset", err)
	}
}

// A handover that can't be used leaves no socket behind, on which connections would wait in vain.
func TestTakeOverRefuses(t *testing.T) {
	mail, chat := proxytest.RouteTo("mail", 25), proxytest.RouteTo("chat", 26)
	overlapping := proxytest.RouteTo("chat", 25)
	listening := func() (files []*os.File, addr string) {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return filesOf(t, l), l.Addr().String()
	}
	other := func() *os.File {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fd), "socket")
	}
	second, _ := listening()
	for _, row := range []struct {
		name   string
		routes []deploy.Route
		// beside is given beside the socket that listens.
		beside []*os.File
	}{
		{"more sockets than routes", nil, nil},
		{"fewer sockets than routes", []deploy.Route{mail, chat}, nil},
		{"a table that overlaps itself", []deploy.Route{mail, overlapping}, second},
		{"a socket that does not listen", []deploy.Route{mail, chat}, []*os.File{other()}},
	} {
		t.Run(row.name, func(t *testing.T) {
			socket, addr := listening()
			s := newServer(t)
			if err := s.TakeOver(deploy.Table{Routes: row.routes}, nil, append(socket, row.beside...)); err == nil {
				t.Error("it was accepted")
			}
			if routes := s.Table().Routes; len(routes) != 0 {
				t.Errorf("it serves %+v", routes)
			}
			conn, err := net.DialTimeout("tcp4", addr, proxytest.Patience)
			if err == nil {
				conn.Close()
			}
			if !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("the socket still listens: %v", err)
			}
		})
	}
}

// The successor shows the certificate that the server before it showed, and the server goes on with its own connections.
func TestHandOverOfTLS(t *testing.T) {
	cert := testcert.New(t, time.Hour, "mail.example.com")
	r := proxytest.RouteTo("mail", enginetest.FreePort(t), enginetest.NewServer(t, "v1"))
	r.Options.TLS, r.Certificate = deploy.TerminateTLS, deploy.Certificate{Chain: cert.Chain, Key: cert.Key, ID: "first"}
	dial := func() *tls.Conn {
		t.Helper()
		c, err := tls.Dial("tcp", fmt.Sprint("127.0.0.1:", r.Key.Port), cert.Client)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	echo := func(c *tls.Conn) {
		t.Helper()
		if _, err := fmt.Fprintln(c, "hello"); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			if lines.Text() == "hello" {
				return
			}
		}
		t.Fatalf("no echo: %v", lines.Err())
	}
	servers := []*Server{newServer(t), newServer(t), newServer(t)}
	proxytest.Apply(t, servers[0], r)
	first := dial()
	echo(first)
	for i, before := range servers[:2] {
		err := before.HandOver(func(table deploy.Table, sockets []syscall.Conn, _ []Flow) error {
			return servers[i+1].TakeOver(table, nil, filesOf(t, sockets...))
		})
		if err != nil {
			t.Fatal(err)
		}
		echo(dial())
		echo(first)
	}
	r.Certificate = deploy.Certificate{}
	proxytest.Apply(t, servers[2], r)
	echo(dial())
}

// Routes that share a frontend go with one socket, however often that comes.
func TestHandOverOfNames(t *testing.T) {
	cert := testcert.New(t, time.Hour, "mail.example.com", "news.example.com")
	port := enginetest.FreePort(t)
	var routes []deploy.Route
	for _, app := range []string{"mail", "news"} {
		r := proxytest.RouteTo(app, port, enginetest.NewServer(t, app))
		r.Key.ServerName, r.Options.TLS = app+".example.com", deploy.TerminateTLS
		r.Certificate = deploy.Certificate{Chain: cert.Chain, Key: cert.Key, ID: "first"}
		routes = append(routes, r)
	}
	asks := func(app string) {
		t.Helper()
		config := cert.Client.Clone()
		config.ServerName = app + ".example.com"
		c, err := tls.Dial("tcp", fmt.Sprint("127.0.0.1:", port), config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if line, err := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(line, app+" ") {
			t.Errorf("%q answers, %v, want %s", line, err, app)
		}
	}
	before, after := newServer(t), newServer(t)
	proxytest.Apply(t, before, routes...)
	err := before.HandOver(func(table deploy.Table, sockets []syscall.Conn, _ []Flow) error {
		if len(table.Routes) != 2 || len(sockets) != 2 {
			t.Errorf("got %d sockets for %+v", len(sockets), table)
		}
		return after.TakeOver(table, nil, filesOf(t, sockets...))
	})
	if err != nil {
		t.Fatal(err)
	}
	asks("mail")
	asks("news")
	proxytest.Apply(t, after, routes[1])
	asks("news")
	proxytest.Apply(t, after)
	if _, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the port is open still: %v", err)
	}
}
