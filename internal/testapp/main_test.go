package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// app is a running testapp.
type app struct {
	addrs   []string
	sigterm context.CancelFunc
	exited  chan struct{} // closed when code is set
	code    int
	stderr  bytes.Buffer // to be read after exited
}

// start runs the app on n ports of 127.0.0.1 with the environment env. Its context's end stands for SIGTERM.
func start(t *testing.T, n int, env map[string]string) *app {
	t.Helper()
	a := &app{}
	var ports []string
	var held []net.Listener
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, ln) // all are taken until all are known, so that they differ
		a.addrs = append(a.addrs, ln.Addr().String())
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		ports = append(ports, port)
	}
	for _, ln := range held {
		ln.Close()
	}
	values := map[string]string{"PORTS": strings.Join(ports, ","), "BIND": "127.0.0.1", "VERSION": "v1", "ID": "c0ffee"}
	for k, v := range env {
		values[k] = v
	}
	lookup := func(k string) (string, bool) { v, ok := values[k]; return v, ok }

	ctx, sigterm := context.WithCancel(context.Background())
	a.sigterm, a.exited = sigterm, make(chan struct{})
	go func() {
		a.code = run(ctx, nil, lookup, &a.stderr)
		close(a.exited)
	}()
	t.Cleanup(func() {
		a.sigterm()
		<-a.exited
	})
	return a
}

// dial connects as soon as the app listens.
func (a *app) dial(t *testing.T, i int) (net.Conn, *bufio.Reader) {
	t.Helper()
	for {
		conn, err := net.DialTimeout("tcp", a.addrs[i], 5*time.Second)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			return conn, bufio.NewReader(conn)
		}
		select {
		case <-a.exited:
			t.Fatalf("the app exited with status %d: %s", a.code, &a.stderr)
		default:
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("connecting: %v", err)
		}
	}
}

func readLine(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("reading a line: %v", err)
	}
	return line
}

func TestGreetsAndEchoesOnEachPort(t *testing.T) {
	a := start(t, 2, map[string]string{"LISTEN_DELAY": "1ms"})
	for i, addr := range a.addrs {
		conn, r := a.dial(t, i)
		_, port, _ := net.SplitHostPort(addr)
		if got, want := readLine(t, r), "v1 c0ffee "+port+"\n"; got != want {
			t.Errorf("greeting %q, want %q", got, want)
		}
		for _, line := range []string{"hello\n", strings.Repeat("x", 10_000) + "\n"} {
			if _, err := io.WriteString(conn, line); err != nil {
				t.Fatal(err)
			}
			if got := readLine(t, r); got != line {
				t.Errorf("echo of %d bytes came back as %d", len(line), len(got))
			}
		}
	}
}

func TestSIGTERM(t *testing.T) {
	t.Run("established connections go on, new ones are refused", func(t *testing.T) {
		a := start(t, 1, map[string]string{"LINGER": "1h", "EXIT_CODE": "7"})
		conn, r := a.dial(t, 0)
		readLine(t, r)
		a.sigterm()
		for {
			c, err := net.Dial("tcp", a.addrs[0])
			if errors.Is(err, syscall.ECONNREFUSED) {
				break
			}
			if err == nil {
				c.Close()
			}
		}
		fmt.Fprintln(conn, "still here")
		if got := readLine(t, r); got != "still here\n" {
			t.Errorf("echo after SIGTERM: %q", got)
		}
		conn.Close() // the last one: nothing is left to wait for
		<-a.exited
		if a.code != 7 {
			t.Errorf("exit status %d, want 7", a.code)
		}
	})
	t.Run("the linger time ends them", func(t *testing.T) {
		a := start(t, 1, map[string]string{"LINGER": "1ms"})
		_, r := a.dial(t, 0)
		readLine(t, r)
		a.sigterm()
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("reading after the linger time: %v, want EOF", err)
		}
		<-a.exited
		if a.code != 0 {
			t.Errorf("exit status %d, want 0", a.code)
		}
	})
}

func TestMisbehaves(t *testing.T) {
	t.Run("slam", func(t *testing.T) {
		a := start(t, 1, map[string]string{"SLAM": "1"})
		_, r := a.dial(t, 0)
		if b, err := r.ReadByte(); err == nil {
			t.Errorf("read %q, want a closed connection", b)
		}
	})
	t.Run("exit after", func(t *testing.T) {
		a := start(t, 1, map[string]string{"EXIT_AFTER": "1ms"})
		<-a.exited
		if a.code != 1 {
			t.Errorf("exit status %d, want 1", a.code)
		}
	})
	t.Run("exit while waiting to listen", func(t *testing.T) {
		a := start(t, 1, map[string]string{"EXIT_AFTER": "1ms", "LISTEN_DELAY": "1h"})
		<-a.exited
		if a.code != 1 {
			t.Errorf("exit status %d, want 1", a.code)
		}
	})
	t.Run("never listens", func(t *testing.T) {
		a := start(t, 1, map[string]string{"NOLISTEN": "1"})
		if c, err := net.Dial("tcp", a.addrs[0]); err == nil {
			c.Close()
			t.Error("it listens")
		}
		select {
		case <-a.exited:
			t.Errorf("it exited with status %d", a.code)
		default:
		}
	})
	t.Run("port taken", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		a := start(t, 0, map[string]string{"PORTS": port})
		<-a.exited
		if want := "listening on port " + port; a.code != 1 || !strings.Contains(a.stderr.String(), want) {
			t.Errorf("exit status %d, message %q; want 1 and %q", a.code, a.stderr.String(), want)
		}
	})
}

func TestConfigureRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		env  map[string]string
		want string
	}{
		{"no port", nil, nil, "no port to listen on"},
		{"port 0", nil, map[string]string{"PORTS": "0"}, `PORTS="0": "0" is no port`},
		{"port above 65535", []string{"-ports", "65536"}, nil, `"65536" is no port`},
		{"empty list", nil, map[string]string{"PORTS": ""}, `"" is no port`},
		{"a duration without its unit", nil, map[string]string{"PORTS": "1", "LINGER": "5"}, `LINGER="5"`},
		{"an argument", []string{"-ports", "1", "2"}, nil, `unexpected argument "2"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := configure(test.args, func(k string) (string, bool) { v, ok := test.env[k]; return v, ok }, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestFlagOverridesEnvironment(t *testing.T) {
	env := func(k string) (string, bool) { return "1", k == "PORTS" }
	cfg, err := configure([]string{"-ports", "2,3"}, env, io.Discard)
	if err != nil || len(cfg.ports) != 2 || cfg.ports[0] != 2 || cfg.ports[1] != 3 {
		t.Errorf("ports %v, error %v; want [2 3]", cfg.ports, err)
	}
}
