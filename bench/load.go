package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dokku-expose/bench/measure"
)

const (
	// persistent is the number of connections that requests go through.
	persistent = 64
	// openers is the number of clients that open one connection after the other.
	openers = 32
	// requestSize is the size of a request and of its answer in bytes.
	requestSize = 128
	// packetSize is the size of a datagram that a network carries in one piece.
	packetSize = 1400
	// mostSessions are what proxies of UDP have room for with few files.
	mostSessions = 1000
	// mostFailures are told.
	mostFailures = 5
	// answerTimeout is how long a client waits for an answer.
	answerTimeout = 5 * time.Second
)

// result is what clients found. What a kind of load does not find is zero.
type result struct {
	// Seconds is how long it took.
	Seconds float64
	// Bytes were received, Count requests were answered or connections opened.
	Bytes, Count int64
	// Lost is the share of datagrams that did not arrive.
	Lost float64
	// P50 and P99 are the time of a request in seconds.
	P50, P99 float64
	// Failed counts what did not work, Failures say how the first of them failed.
	Failed   int
	Failures []string
	// Checks tells for each property of a proxy whether it has it.
	Checks map[string]bool
}

// runLoad is the clients of one measurement: load -to ADDRESS -for DURATION KIND. The result goes to stdout in JSON; connections
// that are to be idle stay until stdin ends.
func runLoad(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	var l load
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.TextVar(&l.to, "to", netip.AddrPort{}, "where to connect")
	flags.TextVar(&l.origin, "origin", netip.AddrPort{}, "the origin behind that")
	flags.DurationVar(&l.duration, "for", time.Second, "how long")
	flags.IntVar(&l.streams, "streams", 1, "connections")
	flags.StringVar((*string)(&l.mode), "mode", string(overTCP), "what to speak")
	flags.IntVar(&l.size, "size", requestSize, "bytes of each datagram")
	flags.IntVar(&l.rate, "rate", 0, "datagrams a second, 0 for as many as go")
	if err := flags.Parse(args); err != nil {
		return err
	}
	kinds := map[string]func(context.Context) (result, error){
		"bulk": l.bulk, "requests": l.requests, "connections": l.connections, idle: l.idle, "checks": l.checks, "send": l.send,
	}
	kind, ok := kinds[flags.Arg(0)]
	if !ok {
		return fmt.Errorf("there is no load %q", flags.Arg(0))
	}
	r, err := kind(ctx)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(r); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	dropAll(l.kept)
	return err
}

// load is what clients do.
type load struct {
	to, origin netip.AddrPort
	duration   time.Duration
	streams    int
	mode       mode
	size, rate int
	// sources counts the addresses that clients have connected from.
	sources atomic.Uint32

	mu     sync.Mutex
	result result
	// kept are connections that stay idle.
	kept []net.Conn
}

// failed notes what did not work.
func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.Failed++
	if len(l.result.Failures) < mostFailures {
		l.result.Failures = append(l.result.Failures, err.Error())
	}
}

// open opens so many connections and says the line on each.
func (l *load) open(ctx context.Context, n int, line string) ([]net.Conn, error) {
	var conns []net.Conn
	for range n {
		conn, err := connect(ctx, l.to, l.sources.Add(1), l.mode)
		if err == nil {
			conns = append(conns, conn)
			_, err = io.WriteString(conn, line+"\n")
		}
		if err != nil {
			dropAll(conns)
			return nil, err
		}
	}
	return conns, nil
}

// bulk reads what the origin sends, on so many streams.
func (l *load) bulk(ctx context.Context) (result, error) {
	conns, err := l.open(ctx, l.streams, saySend)
	if err != nil {
		return result{}, err
	}
	defer dropAll(conns)
	var (
		streams sync.WaitGroup
		bytes   atomic.Int64
		began   = time.Now()
		end     = began.Add(l.duration)
	)
	for _, conn := range conns {
		streams.Go(func() {
			buffer := make([]byte, chunk)
			for time.Now().Before(end) {
				if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
					l.failed(err)
					return
				}
				n, err := conn.Read(buffer)
				bytes.Add(int64(n))
				if err != nil {
					l.failed(err)
					return
				}
			}
		})
	}
	streams.Wait()
	l.result.Seconds, l.result.Bytes = time.Since(began).Seconds(), bytes.Load()
	return l.result, nil
}

// openEchoed opens so many connections whose data the origin echoes.
func (l *load) openEchoed(ctx context.Context, n int) ([]net.Conn, error) {
	conns, err := l.open(ctx, n, sayEcho)
	line := make([]byte, len(sayEcho)+1)
	for _, conn := range conns {
		err = errors.Join(err, readAnswer(conn, line))
	}
	if err != nil {
		dropAll(conns)
		return nil, err
	}
	return conns, nil
}

// requests sends one request after the other on each of some connections.
func (l *load) requests(ctx context.Context) (result, error) {
	conns, err := l.openEchoed(ctx, persistent)
	if err != nil {
		return result{}, err
	}
	defer dropAll(conns)
	var (
		clients sync.WaitGroup
		times   = make([][]float64, len(conns))
		began   = time.Now()
		end     = began.Add(l.duration)
	)
	for i, conn := range conns {
		clients.Go(func() {
			request := make([]byte, requestSize)
			for {
				sent := time.Now()
				if !sent.Before(end) {
					return
				}
				_, err := conn.Write(request)
				if err == nil {
					err = readAnswer(conn, request)
				}
				if err != nil {
					l.failed(err)
					return
				}
				times[i] = append(times[i], time.Since(sent).Seconds())
			}
		})
	}
	clients.Wait()
	l.result.Seconds = time.Since(began).Seconds()
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	l.result.Count = int64(len(all))
	if len(all) > 0 {
		l.result.P50, l.result.P99 = measure.Percentile(all, 0.5), measure.Percentile(all, 0.99)
	}
	return l.result, nil
}

// connections opens connections, has a line echoed on each, and resets it.
func (l *load) connections(ctx context.Context) (result, error) {
	var (
		clients sync.WaitGroup
		count   atomic.Int64
		began   = time.Now()
		end     = began.Add(l.duration)
	)
	for range openers {
		clients.Go(func() {
			for time.Now().Before(end) {
				conn, err := connect(ctx, l.to, l.sources.Add(1), l.mode)
				if err == nil {
					err = echo(conn)
					drop(conn)
				}
				if err != nil {
					l.failed(err)
					continue
				}
				count.Add(1)
			}
		})
	}
	clients.Wait()
	l.result.Seconds, l.result.Count = time.Since(began).Seconds(), count.Load()
	return l.result, nil
}

// idle opens so many connections, as far as they are answered, and keeps them.
func (l *load) idle(ctx context.Context) (result, error) {
	var (
		clients sync.WaitGroup
		tried   atomic.Int64
		full    atomic.Bool
	)
	for range openers {
		clients.Go(func() {
			for !full.Load() && tried.Add(1) <= int64(l.streams) {
				conn, err := connect(ctx, l.to, l.sources.Add(1), l.mode)
				if err == nil {
					err = echo(conn)
				}
				if err != nil {
					// The proxy has as many as it takes.
					full.Store(true)
					return
				}
				l.keep(conn)
			}
		})
	}
	clients.Wait()
	l.result.Count = int64(len(l.kept))
	return l.result, nil
}

// send sends datagrams one way, and has the origin count them.
func (l *load) send(ctx context.Context) (result, error) {
	conns, err := l.openEchoed(ctx, l.streams)
	if err != nil {
		return result{}, err
	}
	defer dropAll(conns)
	var before, during, after int64
	if err := l.ask(ctx, sayCount, &before); err != nil {
		return result{}, err
	}
	var (
		clients sync.WaitGroup
		sent    atomic.Int64
		began   = time.Now()
		end     = began.Add(l.duration)
	)
	for _, conn := range conns {
		clients.Go(func() {
			datagram := make([]byte, l.size)
			copy(datagram, sayCount)
			for n := 0; time.Now().Before(end); n++ {
				if l.rate > 0 {
					time.Sleep(time.Until(began.Add(time.Duration(n*l.streams) * time.Second / time.Duration(l.rate))))
				}
				if _, err := conn.Write(datagram); err != nil {
					l.failed(err)
					return
				}
				sent.Add(1)
			}
		})
	}
	clients.Wait()
	if err := l.ask(ctx, sayCount, &during); err != nil {
		return result{}, err
	}
	l.result.Seconds, l.result.Count = time.Since(began).Seconds(), during-before
	l.result.Bytes = l.result.Count * int64(l.size)
	// Some are still on their way.
	for after != during {
		during = after
		time.Sleep(100 * time.Millisecond)
		if err := l.ask(ctx, sayCount, &after); err != nil {
			return result{}, err
		}
	}
	l.result.Lost = 1 - float64(after-before)/float64(max(sent.Load(), 1))
	return l.result, nil
}

func (l *load) keep(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, conn)
}

// connect connects from an address of its own in 127.0.0.0/8, the nth, or from any for 0: from a single one ports would run out.
func connect(ctx context.Context, to netip.AddrPort, n uint32, m mode) (net.Conn, error) {
	dialer := net.Dialer{Timeout: answerTimeout, KeepAlive: -1}
	dialer.SetMultipathTCP(false)
	// 1 to 254 in each byte, and none of the addresses that the proxies and the origin have.
	from := net.IPv4(127, byte(2+n/254/254%253), byte(1+n/254%254), byte(1+n%254))
	network := "tcp"
	switch {
	case m == overUDP:
		network, dialer.LocalAddr = "udp", &net.UDPAddr{IP: from}
	case n > 0:
		dialer.LocalAddr = &net.TCPAddr{IP: from}
	}
	conn, err := dialer.DialContext(ctx, network, to.String())
	if err != nil || m != overTLS {
		return conn, err
	}
	// The server is not verified: that costs clients only. Without a cache of sessions each handshake is a whole one, with a key exchange that all have.
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}})
	if err := client.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return client, nil
}

// stream is a connection that can end on one side.
type stream interface {
	net.Conn
	CloseWrite() error
}

// echo says the line that has the origin echo, and waits for it.
func echo(conn net.Conn) error {
	if _, err := io.WriteString(conn, sayEcho+"\n"); err != nil {
		return err
	}
	return readAnswer(conn, make([]byte, len(sayEcho)+1))
}

// readAnswer fills the answer.
func readAnswer(conn net.Conn, answer []byte) error {
	if err := conn.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, answer)
	return err
}

// drop resets a connection: a port that is in TIME_WAIT is one that the next connections can't have.
func drop(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func dropAll(conns []net.Conn) {
	for _, conn := range conns {
		drop(conn)
	}
}
