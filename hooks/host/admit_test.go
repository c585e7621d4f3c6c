package host

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"dokku-expose/deploy"
	"dokku-expose/internal/dockertest"
	"dokku-expose/internal/freeport"
)

// anyRoute is an engine that supports each route.
type anyRoute struct{ deploy.Engine }

func (anyRoute) Supports(deploy.Route) error { return nil }

// A port is taken for its protocol only, whoever has it, and the refusal names that one.
func TestPortsAreTakenByProtocol(t *testing.T) {
	lib := t.TempDir()
	env := map[string]string{"DOKKU_ROOT": t.TempDir(), "DOKKU_LIB_ROOT": lib, runDirVariable: t.TempDir()}
	h, err := New(func(key string) string { return env[key] }, nil, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	image := dockertest.Image(t, fstest.MapFS{"testapp": {Data: dockertest.Program(t, "dokku-expose/internal/testapp"), Mode: 0o755}},
		`CMD ["/testapp"]`, "ENV PORTS=53")
	publish := func(t *testing.T, network string, port uint16, labels map[string]string) (name string) {
		t.Helper()
		name = fmt.Sprintf("dokku-expose-test-%d", port)
		dockertest.Run(t, image, dockertest.Options{Name: name, Labels: labels, Host: &container.HostConfig{
			PortBindings: nat.PortMap{nat.Port("53/" + network): {{HostPort: fmt.Sprint(port)}}},
		}})
		return name
	}
	listen := func(t *testing.T, network, addr string) net.Addr {
		t.Helper()
		if network == "udp" {
			conn, err := net.ListenPacket(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return conn.LocalAddr()
		}
		ln, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln.Addr()
	}
	for proto, network := range []string{deploy.TCP: "tcp", deploy.UDP: "udp"} {
		for _, row := range []struct {
			name string
			// take takes the port and returns how the refusal goes on.
			take func(t *testing.T, port uint16) string
		}{
			{"a process", func(t *testing.T, port uint16) string {
				listen(t, network, fmt.Sprintf("127.0.0.1:%d", port))
				return fmt.Sprintf("(pid %d) listens on it already; use another public port, or stop that process (ss -l%.1snp 'sport = :%d' names it)", os.Getpid(), network, port)
			}},
			{"an outgoing connection", func(t *testing.T, port uint16) string {
				local := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
				dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(local)}
				if network == "udp" {
					dialer.LocalAddr = net.UDPAddrFromAddrPort(local)
				}
				server := listen(t, network, "127.0.0.1:0")
				conn, err := dialer.Dial(network, server.String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				return fmt.Sprintf("(pid %d) to %s has it as its local port; use another public port", os.Getpid(), server)
			}},
			{"a container of nobody", func(t *testing.T, port uint16) string {
				return fmt.Sprintf("the container %s publishes it (docker run -p); use another port", publish(t, network, port, nil))
			}},
			{"a container of the app", func(t *testing.T, port uint16) string {
				options := filepath.Join(lib, "config", "docker-options", "mail")
				if err := os.MkdirAll(options, 0o755); err != nil {
					t.Fatal(err)
				}
				text := fmt.Sprintf("-p %d:53\n-p %[1]d:53/udp\n", port)
				if err := os.WriteFile(filepath.Join(options, "_default_.deploy"), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				option := map[string]string{"tcp": fmt.Sprintf("-p %d:53", port), "udp": fmt.Sprintf("-p %d:53/udp", port)}[network]
				return fmt.Sprintf("the app's own container %s publishes it (docker run -p); free it: dokku docker-options:remove mail deploy %q, then dokku ps:stop mail;",
					publish(t, network, port, dockertest.Labels("mail", "web", 1)), option)
			}},
		} {
			t.Run(network+", "+row.name, func(t *testing.T) {
				port, err := freeport.Take()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = freeport.Release(port) })
				want := row.take(t, port)
				request := deploy.Request{App: "mail", Claims: []deploy.Claim{
					{App: "mail", Key: deploy.Key{Proto: deploy.Proto(proto), Port: port}},
					{App: "mail", Key: deploy.Key{Proto: deploy.Proto(proto) ^ deploy.UDP, Port: port}},
				}}
				w, err := h.Wire()
				if err != nil {
					t.Fatal(err)
				}
				if err := w.LookAround(t.Context(), anyRoute{}, &request); err != nil {
					t.Fatal(err)
				}
				if got := request.OnHost(request.Claims[0]); got == nil || !strings.Contains(got.Error(), want) {
					t.Errorf("%s: got %v, want %q in it", request.Claims[0].Key, got, want)
				}
				if got := request.OnHost(request.Claims[1]); got != nil {
					t.Errorf("%s, of the other protocol: %v", request.Claims[1].Key, got)
				}
			})
		}
	}
}
