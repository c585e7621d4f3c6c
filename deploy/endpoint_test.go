package deploy

import (
	"net/netip"
	"strings"
	"testing"
)

func TestContainerTargets(t *testing.T) {
	const none = ""
	direct := Endpoint{ID: "0123456789abcdef", App: "mail", Dyno: "web.1", Running: true, State: "running", NetworkMode: "bridge",
		Direct: []netip.Addr{netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("fd00::2")}}
	published := direct
	published.Direct = nil
	published.Published = map[PrivatePort]netip.AddrPort{{Port: 5025}: netip.MustParseAddrPort("127.0.0.1:32768")}
	both := direct
	both.Published = published.Published
	onlyV6 := direct
	onlyV6.Direct = direct.Direct[1:]
	nowhere := published
	nowhere.Published, nowhere.NetworkMode = nil, "none"
	shared := nowhere
	shared.NetworkMode = "container:0123456789abcdef"
	host := Endpoint{ID: "0123456789abcdef", App: "mail", Dyno: "web.1", Running: true, State: "running", HostNetwork: true, NetworkMode: "host"}
	stopped := both
	stopped.Running, stopped.State = false, "exited"

	for _, c := range []struct {
		name      string
		container Endpoint
		upstream  Upstream
		want      string
		// wantErr are words of the error, none where an address is expected.
		wantErr []string
	}{
		{"auto prefers direct", both, UpstreamAuto, "172.17.0.2:5025 [fd00::2]:5025", nil},
		{"the zero value is auto", both, "", "172.17.0.2:5025 [fd00::2]:5025", nil},
		{"auto falls back to published", published, UpstreamAuto, "127.0.0.1:32768 published", nil},
		{"direct takes both families, the best first", direct, UpstreamDirect, "172.17.0.2:5025 [fd00::2]:5025", nil},
		{"direct takes IPv6 when there is nothing else", onlyV6, UpstreamDirect, "[fd00::2]:5025", nil},
		{"published is never direct", both, UpstreamPublished, "127.0.0.1:32768 published", nil},
		{"host network, auto", host, UpstreamAuto, "127.0.0.1:5025", nil},
		{"host network, direct", host, UpstreamDirect, "127.0.0.1:5025", nil},
		{"host network, published", host, UpstreamPublished, "127.0.0.1:5025", nil},
		{"direct is never published", published, UpstreamDirect, none,
			[]string{"0123456789ab (web.1 of mail)", `"bridge"`, "network:set mail", "expose:set mail upstream published"}},
		{"published, but nothing is", direct, UpstreamPublished, none,
			[]string{"0123456789ab (web.1 of mail)", "port 5025", "dokku ps:restart mail"}},
		{"auto with neither", nowhere, UpstreamAuto, none, []string{`"none"`, "dokku network:set mail initial-network", "dokku ps:restart mail"}},
		{"the network of another container, of which nothing can be published", shared, UpstreamAuto, none,
			[]string{"docker-options:remove mail deploy \"--network container:NAME\"; then `dokku ps:restart mail`"}},
		{"a container that does not run", stopped, UpstreamAuto, none, []string{`"exited"`, "dokku logs mail"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.container.Targets(c.upstream, PrivatePort{Port: 5025})
			if c.want == none {
				for _, word := range c.wantErr {
					if err == nil || !strings.Contains(err.Error(), word) {
						t.Errorf("got %v and error %v, want an error that says %q", got, err, word)
					}
				}
				if c.upstream == UpstreamAuto && strings.Contains(err.Error(), "upstream published") {
					t.Errorf("the remedy %v does not help: Docker publishes no port of it", err)
				}
				return
			}
			var words []string
			for _, t := range got {
				if words = append(words, t.Addr.String()); t.Published {
					words = append(words, "published")
				}
			}
			if strings.Join(words, " ") != c.want || err != nil {
				t.Errorf("got %q, %v, want %s", words, err, c.want)
			}
		})
	}
}
