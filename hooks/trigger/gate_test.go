package trigger

import (
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"dokku-expose/deploy"
)

// An address that refuses is told from one that never answers: the app is to blame for one, the network for the other.
func TestGateTellsARefusalFromNoAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	listening := netip.MustParseAddr("127.0.0.1")
	refusing := netip.MustParseAddr("127.0.0.3")
	defer l.Close()
	group := netip.MustParseAddr("224.0.0.1") // no host ever answers for it
	const listens, network = "not on 127.0.0.1", "macvlan"
	for _, row := range []struct {
		name         string
		direct       []netip.Addr
		says, not    string
		listensThere bool
	}{
		{name: "refused", direct: []netip.Addr{refusing}, says: listens, not: network},
		{name: "no answer", direct: []netip.Addr{group}, says: network, not: listens},
		{name: "one of its addresses accepts", direct: []netip.Addr{refusing, listening}, listensThere: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := deploy.Endpoint{ID: "0123456789abcdef", App: "mail", Running: true, Direct: row.direct, NetworkMode: "lan"}
			claims := []deploy.Claim{{App: "mail", Key: deploy.Key{Port: 25}, Private: port, Process: "web", File: "PORTS", Line: 1}}
			waiting, err := silent(t.Context(), c, deploy.UpstreamAuto, claims)
			if err != nil || (len(waiting) == 0) != row.listensThere {
				t.Fatalf("got %v, %v", waiting, err)
			}
			if row.listensThere {
				return
			}
			text := notAccepting(c, time.Second, waiting, claims).Error()
			if !strings.Contains(text, row.says) || strings.Contains(text, row.not) {
				t.Errorf("it says\n%s\nwant %q in it, and not %q", text, row.says, row.not)
			}
		})
	}
}

// A lack of this host's is not the container's to mend.
func TestGateTellsALackOfTheHost(t *testing.T) {
	c := deploy.Endpoint{ID: "0123456789abcdef", App: "mail", Running: true}
	claims := []deploy.Claim{{App: "mail", Key: deploy.Key{Port: 25}, Private: 5025, Process: "web", File: "PORTS", Line: 1}}
	for lack, remedy := range map[error]string{syscall.EMFILE: "LimitNOFILE", syscall.EADDRNOTAVAIL: "ip_local_port_range"} {
		text := notAccepting(c, time.Second, map[deploy.PrivatePort]error{{Port: 5025}: &net.OpError{Op: "dial", Err: lack}}, claims).Error()
		for _, want := range []string{"PORTS line 1", "for a lack of its own", remedy} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in:\n%s", want, text)
			}
		}
		if strings.Contains(text, "the app has to listen") {
			t.Errorf("the app is blamed:\n%s", text)
		}
	}
}
