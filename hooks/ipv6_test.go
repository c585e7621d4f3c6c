package hooks_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"

	"dokku-expose/internal/dockertest"
	"dokku-expose/internal/rig"
)

// A container that has IPv4 and IPv6 addresses, and whose app listens on IPv6 only: the gate passes it, and clients reach it over either.
func TestAppOnIPv6Only(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		var random [3]byte
		_, _ = rand.Read(random[:]) // which never fails
		ipv6 := true
		dual := dockertest.Network(t, network.CreateOptions{
			EnableIPv6: &ipv6,
			IPAM:       &network.IPAM{Config: []network.IPAMConfig{{Subnet: fmt.Sprintf("fd%02x:%02x:%02x::/64", random[0], random[1], random[2])}}},
		})
		h := start(t, engine)
		h.must(h.SetProperty("network", "--global", "initial-network", dual))
		public := h.port()
		src := source("v1", lead(public, private))
		src.Env["NETWORK"] = "tcp6"
		h.push("mail", src)
		h.answers(public, "v1")
		if addr := h.expose(0, "stats", "--format", "json").Stdout; !strings.Contains(addr, "[fd") {
			t.Errorf("it is served at another address than its IPv6 one:\n%s", addr)
		}
		src.Version = "v2"
		h.push("mail", src)
		h.answers(public, "v2")
		h.expose(0, "check")
	})
}
