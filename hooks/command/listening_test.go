package command

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/internal/freeport"
)

// A process that listens for the other protocol is not the one that is looked for.
func TestCheckListenersByProtocol(t *testing.T) {
	port, err := freeport.Take()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = freeport.Release(port) })
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	// check returns what is wrong with an engine of that process that says that it has the port for UDP too.
	check := func(process int) string {
		t.Helper()
		var problems []string
		checkListeners(deploy.Observation{
			Processes: []int{process},
			Routes: []deploy.RouteState{
				{App: "web", Key: deploy.Key{Port: port}, Listening: true},
				{App: "dns", Key: deploy.Key{Proto: deploy.UDP, Port: port}, Listening: true},
			},
		}, func(app, public string, err error) {
			if err != nil {
				problems = append(problems, fmt.Sprintf("%s %s: %v", app, public, err))
			}
		})
		return strings.Join(problems, "\n")
	}
	if got := check(os.Getpid()); !strings.HasPrefix(got, fmt.Sprintf("dns %d/udp: nobody listens on it", port)) {
		t.Errorf("only TCP: %q", got)
	}
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	if got := check(os.Getpid()); got != "" {
		t.Errorf("both: %q", got)
	}
	for _, want := range []string{
		fmt.Sprintf("web %d: ", port), fmt.Sprintf("ss -ltnp 'sport = :%d'", port),
		fmt.Sprintf("dns %d/udp: ", port), fmt.Sprintf("ss -lunp 'sport = :%d'", port),
	} {
		if got := check(os.Getppid()); !strings.Contains(got, want) {
			t.Errorf("somebody else's: %q is missing in %q", want, got)
		}
	}
}
