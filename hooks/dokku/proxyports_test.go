package dokku

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestProxyPorts(t *testing.T) {
	type files = map[string]string
	for _, tt := range []struct {
		name  string
		files files
		want  []string
		err   string
	}{
		{name: "nothing but Dokku's defaults", want: []string{"mail http:80:5000 detected"}},
		{name: "set", files: files{"lib/config/ports/mail/map": "http:80:5000\nhttps:443:5000\n"}, want: []string{"mail http:80:5000", "mail https:443:5000"}},
		{
			name:  "set wins over detected",
			files: files{"lib/config/ports/mail/map": "http:8080:5000\n", "lib/config/ports/mail/map-detected": "http:5025:5025\n"},
			want:  []string{"mail http:8080:5000"},
		},
		{
			name:  "detected by EXPOSE, TCP and UDP",
			files: files{"lib/config/ports/mail/map-detected": "http:5025:5025\nudp:5025:5025\n"},
			want:  []string{"mail http:5025:5025 detected"},
		},
		{name: "gRPC", files: files{"lib/config/ports/mail/map": "grpc:9000:9000\ngrpcs:9001:9000\n"}, want: []string{"mail grpc:9000:9000", "mail grpcs:9001:9000"}},
		{name: "nothing but UDP", files: files{"lib/config/ports/mail/map": "udp:53:53\n"}},
		{
			name:  "garbage between",
			files: files{"lib/config/ports/mail/map": "\n  http:25\nhttp:x:1\nhttp:0:1\nhttp:70000:1\nhttp:1:0\nhttp:1:2:3\nhttp:81:5000\n"},
			want:  []string{"mail http:81:5000"},
		},
		{name: "a random port, for want of a domain", files: files{"lib/config/proxy/mail/proxy-port": "41234"}, want: []string{"mail http:41234:5000 detected"}},
		{name: "the host's port", files: files{"lib/config/proxy/--global/proxy-port": "8080"}, want: []string{"mail http:8080:5000 detected"}},
		{
			name:  "a certificate adds https beside port 80",
			files: files{"root/mail/tls/server.crt": "", "root/mail/tls/server.key": ""},
			want:  []string{"mail http:80:5000 detected", "mail https:443:5000 detected"},
		},
		{
			name:  "a certificate makes all else https",
			files: files{"root/mail/tls/server.crt": "", "root/mail/tls/server.key": "", "lib/config/ports/mail/map-detected": "http:5025:5025\n"},
			want:  []string{"mail https:5025:5025 detected"},
		},
		{
			name:  "a certificate's own port",
			files: files{"root/mail/tls/server.crt": "", "root/mail/tls/server.key": "", "lib/config/proxy/mail/proxy-ssl-port": "8443"},
			want:  []string{"mail http:80:5000 detected", "mail https:8443:5000 detected"},
		},
		{name: "a certificate without its key", files: files{"root/mail/tls/server.crt": ""}, want: []string{"mail http:80:5000 detected"}},
		{name: "the proxy is disabled", files: files{"lib/config/proxy/mail/disabled": "true", "lib/config/ports/mail/map": "http:81:5000\n"}},
		{name: "the proxy is enabled again", files: files{"lib/config/proxy/mail/disabled": "false"}, want: []string{"mail http:80:5000 detected"}},
		{name: "a proxy in a container", files: files{"lib/config/proxy/mail/type": "traefik", "lib/config/ports/mail/map": "http:81:5000\n"}},
		{name: "the host's proxy in a container", files: files{"lib/config/proxy/--global/type": "caddy"}},
		{
			name:  "nginx after all",
			files: files{"lib/config/proxy/--global/type": "caddy", "lib/config/proxy/mail/type": "nginx"},
			want:  []string{"mail http:80:5000 detected"},
		},
		{name: "a proxy that Dokku does not know", files: files{"lib/config/proxy/mail/type": "envoy"}, want: []string{"mail http:80:5000 detected"}},
		{name: "another scheduler", files: files{"lib/config/scheduler/mail/selected": "k3s", "lib/config/ports/mail/map": "http:81:5000\n"}},
		{name: "disabled before 0.38", files: files{"root/mail/ENV": `DOKKU_DISABLE_PROXY="1"`}},
		{name: "a proxy's type before 0.38", files: files{"root/mail/ENV": `DOKKU_APP_PROXY_TYPE="traefik"`}},
		{name: "the host's proxy before 0.38", files: files{"root/ENV": `DOKKU_PROXY_TYPE="traefik"`}},
		{name: "a random port before 0.38", files: files{"root/mail/ENV": "DOKKU_PROXY_PORT=41234"}, want: []string{"mail http:41234:5000 detected"}},
		{
			name:  "what 0.38 has left behind",
			files: files{"root/mail/ENV": "DOKKU_PROXY_PORT=41234", migrated: "true"}, want: []string{"mail http:80:5000 detected"},
		},
		{
			name:  "several apps, one of them broken",
			files: files{"root/web/": "", "root/zoo/": "", "lib/config/ports/web/map/": "", "lib/config/ports/zoo/map": "http:81:5000\n"},
			want:  []string{"mail http:80:5000 detected", "zoo http:81:5000"}, err: "map of web",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := files{"root/mail/": ""}
			maps.Copy(all, tt.files)
			ports, err := host(t, all).ProxyPorts()
			var got []string
			for _, p := range ports {
				text := p.App + " " + p.String()
				if p.Detected {
					text += " detected"
				}
				got = append(got, text)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("ports %q\nwant %q", got, tt.want)
			}
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
		})
	}
}
