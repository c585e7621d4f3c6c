package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"dokku-expose/bench/measure"
)

const (
	// patience is how long a client waits for a greeting.
	patience = 10 * time.Second
	// otherRate is the number of connections a second of those that may not suffer.
	otherRate = 25
	greeting  = "220 ready\r\n"
)

// loadReport is what became of connections. Times are milliseconds until the greeting was there.
type loadReport struct {
	Count, Lost   int
	P50, P99, Max float64
	// Failures are different ways to fail.
	Failures []string
}

// load opens connections at a steady rate, however long each of them takes.
type load struct {
	to   netip.AddrPort
	rate int
	// from are the addresses that clients connect from in turn; any for none.
	from []netip.Addr
}

func (l load) run(ctx context.Context, duration time.Duration) loadReport {
	var (
		mu       sync.Mutex
		r        loadReport
		times    []float64
		failures = make(map[string]bool)
		clients  sync.WaitGroup
		began    = time.Now()
	)
	for i := 0; ctx.Err() == nil; i++ {
		due := time.Duration(i) * time.Second / time.Duration(l.rate)
		if due >= duration {
			break
		}
		time.Sleep(time.Until(began.Add(due)))
		clients.Go(func() {
			start := time.Now()
			err := l.one(i)
			took := time.Since(start)
			mu.Lock()
			defer mu.Unlock()
			r.Count++
			if err != nil {
				r.Lost++
				failures[withoutPorts(err)] = true
				return
			}
			times = append(times, float64(took.Microseconds())/1000)
		})
	}
	clients.Wait()
	slices.Sort(times)
	if len(times) > 0 {
		r.P50, r.P99, r.Max = measure.Percentile(times, 0.5), measure.Percentile(times, 0.99), times[len(times)-1]
	}
	r.Failures = slices.Sorted(maps.Keys(failures))
	return r
}

// withoutPorts is what went wrong, the same for all clients.
func withoutPorts(err error) string {
	text := err.Error()
	return text[strings.LastIndex(text, ": ")+len(": "):]
}

// one connects, reads the greeting, and closes first.
func (l load) one(i int) error {
	dialer := net.Dialer{Timeout: patience, KeepAlive: -1}
	dialer.SetMultipathTCP(false)
	if len(l.from) > 0 {
		dialer.LocalAddr = &net.TCPAddr{IP: l.from[i%len(l.from)].AsSlice()}
	}
	conn, err := dialer.Dial("tcp", l.to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, make([]byte, len(greeting))); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	return nil
}

// runOrigin is a container, or the world: it greets, and closes when its client has. origin ADDRESS GATEWAY PORT...
func runOrigin(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	if err := join(bufio.NewReader(stdin), args[0], args[1]); err != nil {
		return err
	}
	for _, port := range args[2:] {
		ln, err := net.Listen("tcp4", ":"+port)
		if err != nil {
			return err
		}
		go greet(ln)
	}
	fmt.Fprintln(stdout, "ready")
	<-ctx.Done()
	return nil
}

func greet(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if _, err := io.WriteString(conn, greeting); err == nil {
				_, _ = io.Copy(io.Discard, conn)
			}
		}()
	}
}

// runClients is the clients' host: clients ADDRESS GATEWAY, and what they are to do on standard input.
func runClients(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	lines := bufio.NewReader(stdin)
	if err := join(lines, args[0], args[1]); err != nil {
		return err
	}
	var from []netip.Addr
	first := netip.MustParsePrefix(args[0]).Addr()
	for next := first.Next(); len(from) < clientAddresses; next = next.Next() {
		if err := measure.IP(fmt.Sprintf("address add %s/16 dev eth0\n", next)); err != nil {
			return err
		}
		from = append(from, next)
	}
	ln, err := net.Listen("tcp4", fmt.Sprintf("%s:%d", first, worldPort))
	if err != nil {
		return err
	}
	go greet(ln)
	fmt.Fprintln(stdout, "ready")
	var o clientOrders
	if err := json.NewDecoder(lines).Decode(&o); err != nil {
		return err
	}
	if _, err := measure.RaiseFileLimit(1 << 17); err != nil {
		return err
	}
	var (
		both    sync.WaitGroup
		reports [2]loadReport
	)
	for i, l := range []load{{o.To, o.Rate, from}, {o.Other, otherRate, from}} {
		both.Go(func() { reports[i] = l.run(ctx, o.Duration) })
	}
	both.Wait()
	return json.NewEncoder(stdout).Encode(reports)
}

// clientOrders say what the clients are to do.
type clientOrders struct {
	To, Other netip.AddrPort
	Rate      int
	Duration  time.Duration
}
