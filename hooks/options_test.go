package hooks_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/renameio/v2"

	"dokku-expose/internal/rig"
)

// An operator says who may connect, at once and without a reload; no push opens what he has closed, nor does an error of his.
func TestOptionsOfOperatorsAndPushes(t *testing.T) {
	forEachEngine(t, optionsOfOperatorsAndPushes)
}

func optionsOfOperatorsAndPushes(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	port, added := h.port(), h.port()
	h.push("mail", source("v1", lead(port, private)+" allow=127.0.0.0/8 idle-timeout=10m"))
	h.answers(port, "v1")
	worker := h.worker()
	shut := func(ports ...uint16) {
		h.t.Helper()
		for _, p := range ports {
			if _, err := h.dial(p); err == nil {
				h.t.Errorf("public port %d is open to everybody", p)
			}
		}
	}

	h.run("a setting closes, and opens again", func() {
		h.expose(0, "set", "mail", "allow", "none")
		shut(port)
		h.expose(0, "set", "mail", "allow", "127.0.0.1,::1")
		h.answers(port, "v1")
		// What has nothing in common with PORTS would be of no use to anybody.
		h.wants(h.expose(1, "set", "mail", "allow", "192.0.2.0/24").Stderr, "nobody can connect", "PORTS line 1", "nothing was changed")
		h.answers(port, "v1")
		if now := h.worker(); now != worker {
			h.t.Errorf("HAProxy was reloaded: its worker was %s and is %s", worker, now)
		}
	})
	h.run("a push asks for more", func() {
		h.push("mail", source("v2", lead(port, private)+" allow=0.0.0.0/0,::/0"))
		h.answers(port, "v2")
		h.expose(0, "set", "mail", "allow", "10.0.0.0/8")
		shut(port)
		for option, command := range map[string]string{
			"allow=127.0.0.1":   "dokku expose:set mail allow 10.0.0.0/8,127.0.0.1",
			"accept-proxy=::/0": "dokku expose:set mail accept-proxy ::/0",
		} {
			h.wants(h.refused("pre-build", "mail", source("v3", lead(port, private)+" "+option)), "PORTS line 1", option, command)
		}
		h.expose(0, "set", "mail", "allow")
		h.answers(port, "v2")
	})
	h.run("a push takes the operator's proxies for clients", func() {
		// Without a header this client is a proxy that says nothing, whose own address is allowed.
		h.expose(0, "set", "mail", "accept-proxy", "127.0.0.1,192.0.2.1")
		h.expose(0, "set", "mail", "allow", "127.0.0.0/8")
		for _, option := range []string{"accept-proxy=none", "accept-proxy=192.0.2.1"} {
			h.wants(h.refused("pre-build", "mail", source("v3", lead(port, private)+" "+option)), "PORTS line 1", option,
				"dokku expose:set mail "+strings.Replace(option, "=", " ", 1))
		}
		h.expose(0, "set", "mail", "allow")
		h.expose(0, "set", "mail", "accept-proxy")
		h.answers(port, "v2")
	})
	h.run("an operator's mapping has its own", func() {
		h.expose(0, "add", "mail", lead(added, private), "allow=10.0.0.0/8", "rate=20/10s")
		shut(added)
		h.wants(h.expose(0, "report", "mail").Stdout, fmt.Sprintf("%s allow=10.0.0.0/8 rate=20/10s", lead(added, private)))
	})
	h.run("settings that can't be read", func() {
		h.expose(0, "set", "mail", "allow", "none")
		file := filepath.Join(h.Lib, "config", rig.Plugin, "apps", "mail.toml")
		h.must(renameio.WriteFile(file, []byte("allow = none\n"), 0o644))
		h.wants(h.expose(1, "sync").Stderr, file)
		shut(port, added)
	})
}
