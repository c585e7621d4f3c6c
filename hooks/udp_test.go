package hooks_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dokku-expose/internal/rig"
	"dokku-expose/internal/wait"
)

// privateUDP is the port of UDP that the tests' apps answer on.
const privateUDP = 5353

// leadUDP is a line of a PORTS file.
func leadUDP(public uint16) string { return fmt.Sprintf("%d:%d/udp", public, privateUDP) }

// sourceUDP is a source that answers on privateUDP as well.
func sourceUDP(version string, lines ...string) rig.Source {
	src := source(version, lines...)
	src.Env["UDP_PORTS"] = fmt.Sprint(privateUDP)
	return src
}

// client is one of a public port of UDP.
type client struct {
	net.Conn
	h *host
}

func (h *host) dialUDP(port uint16) *client {
	h.t.Helper()
	conn, err := net.Dial("udp", loopback(port).String())
	h.must(err)
	h.t.Cleanup(func() { _ = conn.Close() })
	return &client{conn, h}
}

// ask sends a datagram, and returns the version that answers it within a time.
func (c *client) ask(within time.Duration) (string, error) {
	if _, err := c.Write([]byte("?")); err != nil {
		return "", err
	}
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	answer := make([]byte, 512)
	n, err := c.Read(answer)
	version, _, _ := strings.Cut(string(answer[:n]), " ")
	return version, err
}

// asks wants that version to answer.
func (c *client) asks(version string) {
	c.h.t.Helper()
	if got, err := c.ask(wait.Patience); err != nil || got != version {
		c.h.t.Errorf("%q answers (%v), want %s", got, err, version)
	}
}

// answersUDP wants that version to answer new clients.
func (h *host) answersUDP(port uint16, version string) {
	h.t.Helper()
	for range 3 {
		h.dialUDP(port).asks(version)
	}
}

// closedUDP waits until datagrams to the port are refused.
func (h *host) closedUDP(port uint16) {
	h.t.Helper()
	c := h.dialUDP(port)
	await(h.t, fmt.Sprintf("%d/udp is closed", port), func() bool {
		_, err := c.ask(50 * time.Millisecond)
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

// queries asks with new clients again and again, until the function that it returns is called: that says how many were asked, and how many
// were not answered.
func (h *host) queries(port uint16) func() (asked, lost int64) {
	// A client that gets the port of one before it is the same client to everybody: the test's others have another address.
	elsewhere := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	var all, failed atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			// The deploys need the processor.
			for pace := time.NewTicker(2 * time.Millisecond); !stop.Load(); <-pace.C {
				began := time.Now()
				conn, err := elsewhere.Dial("udp", loopback(port).String())
				if err == nil {
					_, err = (&client{conn, h}).ask(20 * time.Second)
					_ = conn.Close()
				}
				if all.Add(1); err != nil {
					failed.Add(1)
					h.t.Logf("a query of %s: %v", began.UTC().Format("15:04:05.000"), err)
				}
			}
		})
	}
	return func() (asked, lost int64) {
		stop.Store(true)
		wg.Wait()
		return all.Load(), failed.Load()
	}
}

func TestUDP(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public, operator := h.port(), h.port()
		lines := []string{lead(public, private), leadUDP(public) + " idle-timeout=10m"}
		v1 := sourceUDP("v1", lines...)
		v1.Env["LINGER"] = "10m"
		h.wants(h.push("dns", v1), fmt.Sprintf("%d/udp", public))
		h.answers(public, "v1")
		h.answersUDP(public, "v1")
		held := h.dialUDP(public)
		for range 5 {
			held.asks("v1") // One that only asks once makes room for others.
		}

		h.run("deploys lose no query, and a session moves with its container's end", func() {
			end, first := h.queries(public), h.current("dns", "web.1")
			h.push("dns", sourceUDP("v2", lines...))
			h.answersUDP(public, "v2")
			held.asks("v1")
			h.must(h.RestartDaemon())
			held.asks("v1")
			h.answersUDP(public, "v2")
			h.push("dns", sourceUDP("v3", lines...))
			h.answersUDP(public, "v3")
			held.asks("v1")
			h.kill(first)
			held.asks("v3")
			asked, lost := end()
			if lost > 0 || asked < 100 {
				h.t.Errorf("%d of %d queries were lost", lost, asked)
			}
			h.t.Logf("%d queries", asked)
		})
		h.run("it is shown", func() {
			h.wants(h.expose(0, "list", "dns").Stdout, fmt.Sprintf("%d/udp", public))
			h.wants(h.expose(0, "list", "dns", "--format", "json").Stdout, fmt.Sprintf("%q", fmt.Sprintf("%d/udp", public)))
			h.wants(h.expose(0, "stats", "dns").Stdout, fmt.Sprintf("UDP of public port %d/udp of dns: datagrams from clients: ", public))
			shown := h.awaitPage("")
			_, metrics := h.page(shown, shown.Password, "/metrics")
			h.wants(metrics, fmt.Sprintf("dokku_expose_datagrams_total{app=\"dns\",direction=\"in\",port=\"%d/udp\",process=\"web\"} ", public),
				fmt.Sprintf("dokku_expose_datagrams_dropped_total{app=\"dns\",port=\"%d/udp\",process=\"web\",reason=\"rate\"} 0", public))
			path := map[string]string{"haproxy": "/containers", "builtin": "/"}[filepath.Base(filepath.Dir(t.Name()+"/x"))]
			_, page := h.page(shown, shown.Password, path)
			h.wants(page, "datagrams from clients: ")
			h.expose(0, "check")
		})
		h.run("what can't be had is told before the build", func() {
			h.wants(h.refused("pre-build", "dns", sourceUDP("v4", leadUDP(public)+" tls=terminate")), "PORTS:1:1: tls=terminate is for TCP")
			h.wants(h.refused("pre-build", "thief", sourceUDP("v1", leadUDP(public))), fmt.Sprintf("public port %d/udp", public), "belongs to the app dns")
			h.push("other", sourceUDP("v1"))
			h.wants(h.expose(1, "add", "other", leadUDP(public)).Stderr, "belongs to the app dns")
			taken, err := net.ListenPacket("udp", fmt.Sprintf(":%d", operator))
			h.must(err)
			h.wants(h.expose(1, "add", "other", leadUDP(operator)).Stderr, "ss -lunp", fmt.Sprint(os.Getpid()))
			h.must(taken.Close())
		})
		h.run("an operator's port", func() {
			h.expose(0, "add", "other", leadUDP(operator))
			h.answersUDP(operator, "v1")
			h.expose(0, "add", "other", lead(operator, private))
			h.answers(operator, "v1")
			h.expose(0, "remove", "other", fmt.Sprintf("%d/udp", operator))
			h.closedUDP(operator)
			h.answers(operator, "v1")
		})
		h.run("an app that does not answer is not deployed", func() {
			h.expose(0, "set", "dns", "check-timeout", "1s")
			var text strings.Builder
			h.fails("check-deploy", h.Push("dns", source("v5", lines...), said(&text)))
			h.wants(text.String(), fmt.Sprintf("the private port %d/udp (PORTS line 2, public port %d/udp)", privateUDP, public))
			h.answersUDP(public, "v3")
		})
		h.run("ps:stop closes it, a container that crashes does not", func() {
			c := h.dialUDP(public)
			c.asks("v3")
			h.kill(h.current("dns", "web.1"))
			await(h.t, "a session is held", func() bool {
				_, err := c.Write([]byte("?"))
				h.must(err)
				return strings.Contains(h.expose(0, "stats", "dns").Stdout, "wait)")
			})
			h.startAgain(h.current("dns", "web.1"))
			await(h.t, "it is answered", func() bool {
				_ = c.SetReadDeadline(time.Now().Add(time.Second))
				n, err := c.Read(make([]byte, 512))
				return err == nil && n > 0
			})
			h.answersUDP(public, "v3")
			h.must(h.Stop("dns"))
			h.closedUDP(public)
		})
	})
}

// Two containers that come back in the other order have swapped addresses: no session, old or new, gets an answer of the other app.
func TestUDPAfterAddressesAreSwapped(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		dnsPort, gamePort := h.port(), h.port()
		h.push("dns", sourceUDP("dns", leadUDP(dnsPort)))
		h.push("game", sourceUDP("game", leadUDP(gamePort)))
		dns, game := h.current("dns", "web.1"), h.current("game", "web.1")
		h.watched()

		var stop atomic.Bool
		var wg sync.WaitGroup
		answers := make(map[string]*atomic.Int64)
		for app, port := range map[string]uint16{"dns": dnsPort, "game": gamePort} {
			n := new(atomic.Int64)
			answers[app] = n
			held := h.dialUDP(port)
			wg.Go(func() {
				for !stop.Load() {
					conn, err := net.Dial("udp", loopback(port).String())
					if err != nil {
						t.Error(err)
						return
					}
					for _, c := range []*client{held, {conn, h}} {
						if version, err := c.ask(20 * time.Millisecond); err == nil && version != app {
							t.Errorf("a session of %s is answered by %s", app, version)
						} else if err == nil {
							n.Add(1)
						}
					}
					_ = conn.Close()
				}
			})
		}
		for range 3 {
			h.kill(dns, game)
			h.startAgain(game, dns)
			for app, n := range answers {
				before := n.Load()
				await(t, app+" is answered again", func() bool { return n.Load() > before+10 })
			}
			dns, game = game, dns
		}
		stop.Store(true)
		wg.Wait()
		h.answersUDP(dnsPort, "dns")
		h.answersUDP(gamePort, "game")
	})
}
