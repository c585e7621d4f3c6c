package hooks_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"dokku-expose/internal/rig"
)

// An operator moves the statistics page of a host that serves. It is at its new address then and at no other one, and nobody's
// connection sees anything of it.
func TestThePageMoves(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public := h.port()
		h.push("mail", source("v1", lead(public, private)))
		first := h.awaitPage("")
		c, err := h.dial(public)
		h.must(err)
		l := h.load(public, 4, 10)
		from := first
		for range 2 {
			h.seen(l, 10)
			to := loopback(h.port()).String()
			h.expose(0, "set", "--global", "stats-listen", to)
			now := h.awaitPage(to)
			if now.Password != first.Password {
				h.t.Error("the password is another one")
			}
			for _, path := range []string{"/", "/containers", "/metrics"} {
				if code, body := h.page(now, now.Password, path); code != http.StatusOK || !strings.Contains(body, "mail") {
					h.t.Errorf("%s at the new address: %d\n%s", path, code, body)
				}
				if code, _ := h.page(now, "wrong", path); code != http.StatusUnauthorized {
					h.t.Errorf("%s at the new address with a wrong password: %d", path, code)
				}
			}
			h.noPage(from)
			h.must(c.echo())
			from = now
		}
		for every, one := range map[string]string{"0.0.0.0": "127.0.0.1", "[::]": "[::1]"} {
			port := h.port()
			h.expose(0, "set", "--global", "stats-listen", fmt.Sprintf("%s:%d", every, port))
			now := h.awaitPage(fmt.Sprintf("%s:%d", one, port))
			if code, _ := h.page(now, now.Password, "/"); code != http.StatusOK || now.Tunnel == "" {
				h.t.Errorf("on every address: %d with the tunnel %q", code, now.Tunnel)
			}
			h.noPage(from)
			from = now
		}
		h.seen(l, 10)
		h.judge(l)
		h.expose(0, "check")
	})
}

// awaitPage waits until expose:stats tells of a page at an address, "" for any.
func (h *host) awaitPage(address string) shown {
	h.t.Helper()
	await(h.t, "the page is at "+address, func() bool {
		result, err := h.Command("stats")
		return err == nil && result.Code == 0 && strings.Contains(result.Stdout, "http://"+address)
	})
	return h.stats()
}

// noPage wants nobody to listen where the page was.
func (h *host) noPage(was shown) {
	h.t.Helper()
	address, err := url.Parse(was.URL)
	h.must(err)
	conn, err := net.Dial("tcp", address.Host)
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		h.t.Errorf("connecting to the page's former address gives %v", err)
	}
}
