package settings

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/portsfile"
)

func TestLoadRefused(t *testing.T) {
	for _, tt := range []struct {
		name, scope, text string
		want              []string
	}{
		{name: "an unknown key", text: "# c\n\nholt = \"1s\"\n", want: []string{`mail.toml:3: there is no setting "holt": did you mean hold? known are upstream,`}},
		{name: "a key that is almost mappings", text: "mapping = []\n", want: []string{`mail.toml:1: there is no setting "mapping": did you mean mappings?`}},
		{name: "mappings of the host", scope: Global, text: "mappings = []\n", want: []string{`global.toml:1: there is no setting "mappings"`}},
		{name: "a table", text: "[mail]\nhold = \"1s\"\n", want: []string{`mail.toml:1: there is no setting "mail"`}},
		{name: "the host's, for an app", text: "engine = \"haproxy\"\n", want: []string{"mail.toml:1: engine is a setting of the whole host"}},
		{name: "an app's, for the host", scope: Global, text: "ports-file = \"P\"\n", want: []string{"global.toml:1: ports-file is a setting of a single app"}},
		{name: "no quotes", text: "\nhold = 10s\n", want: []string{"mail.toml:2: "}},
		{name: "no value", text: "hold =\n", want: []string{"mail.toml:1: "}},
		{name: "an empty value", text: "hold = \"\"\n", want: []string{`mail.toml:1: hold: "" is not a time`}},
		{name: "the same key twice", text: "hold = \"1s\"\nhold = \"2s\"\n", want: []string{"mail.toml:2: "}},
		{name: "a truth", text: "hold = true\n", want: []string{"mail.toml:1: hold must be text in quotes or a whole number"}},
		{name: "a fraction", text: "max-ports = 1.5\n", want: []string{"mail.toml:1: max-ports must be text in quotes or a whole number"}},
		{name: "a list", text: "reserved-ports = [22, 80]\n", want: []string{"mail.toml:1: reserved-ports must be text"}},
		{name: "a number without its unit", text: "hold = 10\n", want: []string{`mail.toml:1: hold: "10" is not a time: expected a number with a unit`}},
		{name: "disabled is no truth", text: "disabled = \"yes\"\n", want: []string{"mail.toml:1: disabled must be true or false"}},
		{name: "mappings are no list", text: "mappings = \"25:25\"\n", want: []string{"mail.toml:1: mappings must be a list"}},
		{name: "a mapping is no text", text: "mappings = [25]\n", want: []string{"mail.toml:1: mappings: entry 1 must be a text"}},
		{
			name: "a mapping is none", text: "mappings = [\n  \"25:5025\",\n  \"x\",\n]\n",
			want: []string{`mail.toml:1: mappings: entry 2, "x": column 1: `},
		},
		{name: "mappings that overlap", text: "mappings = [\"25:1\", \"25:2\"]\n", want: []string{"mail.toml:1: mappings: entry 2: ", "entry 1"}},
		{
			name: "all mistakes at once, in their order", text: "hold = \"x\"\n# c\nmappings = [\n  \"25:5025\",\n]\ndrain-wait = \"y\"\nfoo = 1\n",
			want: []string{"mail.toml:1: hold: ", "mail.toml:6: drain-wait: ", "mail.toml:7: there is no setting \"foo\""},
		},
		{name: "not UTF-8", text: "# a\nhold = \"\xff\"\n", want: []string{"mail.toml:2: this is not UTF-8 text: save the file as UTF-8"}},
		{name: "UTF-16", text: "\xff\xfeh\x00o\x00", want: []string{"mail.toml:1: this is not UTF-8 text"}},
		{name: "the mark of UTF-16 before UTF-8", text: "\xfe\xffhold = \"1s\"\n", want: []string{"mail.toml:1: this is not UTF-8 text"}},
		{name: "too large", text: strings.Repeat("# comment\n", maxFile/10+1), want: []string{"mail.toml is larger than 512 KiB"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scope := tt.scope
			if scope == "" {
				scope = "mail"
			}
			s := store(t, map[string]string{scope: tt.text})
			_, err := s.Effective("mail")
			if err == nil {
				t.Fatal("no error")
			}
			rest := err.Error()
			for _, want := range tt.want {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Errorf("error %v, want one with %q in this order", err, tt.want)
				}
				rest = after
			}
			if !strings.HasPrefix(err.Error(), s.Dir) {
				t.Errorf("error %v, want one that begins with the file's path", err)
			}
			// The host's mistakes are everybody's, an app's are its own.
			if _, err := s.Effective("other"); (err != nil) != (scope == Global) {
				t.Errorf("another app's settings: %v", err)
			}
		})
	}
	t.Run("a folder", func(t *testing.T) {
		s := store(t, nil)
		if err := os.MkdirAll(filepath.Join(s.Dir, "apps", "mail.toml"), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load("mail"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("error %v, want one that says what it is", err)
		}
	})
	t.Run("the error's parts", func(t *testing.T) {
		_, err := store(t, map[string]string{"mail": "\nfoo = 1\n"}).Load("mail")
		var e *Error
		if !errors.As(err, &e) || e.Line != 2 || filepath.Base(e.File) != "mail.toml" || errors.Unwrap(e) == nil {
			t.Errorf("error %#v", e)
		}
	})
}

func TestLoad(t *testing.T) {
	s := store(t, map[string]string{
		"mail": "\ufeff# c\r\n'hold' = '''\r\n1s'''\r\nmax-ports = 0x10\r\ndisabled = true\r\nmappings = ['25:5025', \"993:5993 process=imap\"]",
	})
	got, err := s.Load("mail")
	want := App{
		Settings: map[string]string{"hold": "1s", "max-ports": "16"},
		Mappings: mappings(t, "25:5025", "993:5993 process=imap"),
		Disabled: true,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("loaded %+v, %v; want %+v", got, err, want)
	}
	if got, err := s.Load("none"); err != nil || len(got.Settings)+len(got.Mappings) > 0 || got.Disabled {
		t.Errorf("loaded %+v, %v for an app without settings", got, err)
	}
}

func TestEffective(t *testing.T) {
	ports := func(list ...uint16) (ranges []portsfile.Range) {
		for i := 0; i < len(list); i += 2 {
			ranges = append(ranges, portsfile.Range{First: list[i], Last: list[i+1]})
		}
		return ranges
	}
	defaults := func() Values {
		return Values{
			Engine:   Auto,
			Upstream: deploy.UpstreamAuto, PortsFile: "PORTS", CheckTimeout: 30 * time.Second, Hold: 10 * time.Second,
			OldConnections: KeepOld, Kustomize: true, WorkerDeadline: 24 * time.Hour, HealthCheck: 2 * time.Second, HalfClosed: time.Minute, Certificate: OwnCertificate,
			StatsListen: netip.MustParseAddrPort("127.0.0.1:8404"),
			Policy: deploy.Policy{
				Reserved: ports(22, 22, 80, 80, 443, 443), Allowed: ports(1, 65535), Max: 1024,
			},
		}
	}
	for _, tt := range []struct {
		name, global, app string
		want              func(*Values)
	}{
		{name: "the defaults"},
		{
			name: "all of the host's",
			global: "engine='haproxy'\nupstream='direct'\ncheck-timeout='1m'\nhold=0\ndrain-wait='5s'\nold-connections='1h'\nkustomize='off'\nworker-deadline='48h'\ncheck='off'\nhealth-check='0'\nstats-listen='[::1]:9000'\nreserved-ports='none'\nallowed-ports='1000-2000, 25'\nallow-bind='127.0.0.1, 10.0.0.0/8,0.0.0.0,::,fd00::/8'\nmax-ports=5\n" +
				"allow='10.0.0.0/8, ::1'\nproxy-protocol='v2'\naccept-proxy='10.0.0.1'\nmax-connections=7\ntotal-connections='9'\nrate='20/10s'\nidle-timeout='5m'\nhalf-closed-timeout='10m'\nbalance='source'\ntls='terminate'\ncert='web'\n",
			want: func(v *Values) {
				*v = Values{
					Engine: HAProxy, Upstream: deploy.UpstreamDirect, PortsFile: "PORTS", CheckTimeout: time.Minute,
					DrainWait: 5 * time.Second, OldConnections: time.Hour, WorkerDeadline: 48 * time.Hour,
					StatsListen: netip.MustParseAddrPort("[::1]:9000"), HalfClosed: 10 * time.Minute, TotalConnections: 9, Certificate: "web",
					Policy: deploy.Policy{
						Allowed: ports(1000, 2000, 25, 25), Max: 5,
						Options: deploy.Options{
							Allow:         deploy.NetworksOf(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")),
							AcceptProxy:   deploy.NetworksOf(netip.MustParsePrefix("10.0.0.1/32")),
							ProxyProtocol: deploy.ProxyV2, MaxConnections: 7, Rate: 20, IdleTimeout: 5 * time.Minute, Balance: deploy.BySource, Check: deploy.NoCheck, TLS: deploy.TerminateTLS,
						},
						Bind: []netip.Prefix{
							netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8"),
							netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), netip.MustParsePrefix("fd00::/8"),
						},
					},
				}
			},
		},
		{
			name:   "the app's before the host's",
			global: "hold='1m'\ndrain-wait='1m'\nold-connections='1m'\nallow-bind='127.0.0.1'\n",
			app:    "hold='2m'\nold-connections='keep'\nkustomize='on'\nallow-bind='any'\nports-file='deploy/PORTS'\n",
			want: func(v *Values) {
				v.Hold, v.DrainWait, v.PortsFile = 2*time.Minute, time.Minute, "deploy/PORTS"
			},
		},
		{
			name:   "the app's own ports, beside the host's",
			global: "allowed-ports='2000-3000'\n", app: "allowed-ports='25,443'\n",
			want: func(v *Values) {
				v.Policy.Allowed, v.Policy.Own = ports(2000, 3000), ports(25, 25, 443, 443)
			},
		},
		{
			name: "the app's own ports, beside the default", app: "allowed-ports='443'\n",
			want: func(v *Values) { v.Policy.Own = ports(443, 443) },
		},
		{
			name: "the host's allowed ports are nobody's own", global: "allowed-ports='443'\n",
			want: func(v *Values) { v.Policy.Allowed = ports(443, 443) },
		},
		{
			name:   "the app's options before the host's, back to the defaults too",
			global: "allow='10.0.0.0/8'\naccept-proxy='10.0.0.1'\nmax-connections=7\nrate='20/10s'\nidle-timeout='5m'\n",
			app:    "allow='any'\naccept-proxy='none'\nmax-connections=0\nrate='off'\nidle-timeout='0'\n",
		},
		{
			name: "nobody is not everybody", app: "allow='none'\n",
			want: func(v *Values) { v.Policy.Options.Allow = deploy.NetworksOf() },
		},
		{name: "PORTS is ignored", app: "ports-file='ignore'\n", want: func(v *Values) { v.PortsFile = IgnorePorts }},
		{name: "old connections are cut at once", app: "old-connections='0'\n", want: func(v *Values) { v.OldConnections = 0 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := store(t, map[string]string{Global: tt.global, "mail": tt.app})
			want := defaults()
			if tt.want != nil {
				tt.want(&want)
			}
			got, err := s.Effective("mail")
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
			}
		})
	}
	t.Run("where nothing can be read", func(t *testing.T) {
		if got := Defaults(); !reflect.DeepEqual(got, defaults()) {
			t.Errorf("got  %+v\nwant %+v", got, defaults())
		}
	})
	t.Run("of the host itself", func(t *testing.T) {
		s := store(t, map[string]string{Global: "hold='1m'\n"})
		if got, err := s.Effective(Global); err != nil || got.Hold != time.Minute {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("of no app", func(t *testing.T) {
		if _, err := store(t, nil).Effective("../mail"); err == nil {
			t.Error("a path has settings")
		}
	})
}

func TestExplain(t *testing.T) {
	s := store(t, map[string]string{Global: "hold='1m'\nengine='haproxy'\ndrain-wait='1m'\n", "mail": "hold='2m'\n"})
	explain := func(scope string) (lines []string) {
		explained, err := s.Explain(scope)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range explained {
			lines = append(lines, strings.TrimSpace(e.Key.Name+" "+e.Value)+" "+string(e.Origin))
			if want := map[Origin]string{FromApp: e.App, FromGlobal: e.Global, FromDefault: e.Key.Default}[e.Origin]; e.Value != want {
				t.Errorf("%s is %q and comes from %s, where it is %q", e.Key.Name, e.Value, e.Origin, want)
			}
		}
		return lines
	}
	wantApp := []string{
		"upstream auto default", "ports-file PORTS default", "check-timeout 30s default", "hold 2m app", "drain-wait 1m global",
		"old-connections keep default", "kustomize on default", "check connect default", "health-check 2s default", "allow any default", "proxy-protocol off default", "accept-proxy none default",
		"max-connections 0 default", "rate off default", "idle-timeout 0 default", "half-closed-timeout 60s default", "balance leastconn default", "tls off default", "alpn none default", "starttls off default", "cert own default", "client-ca none default", "reserved-ports 22,80,443 default",
		"allowed-ports 1-65535 default", "allowed-hosts any default", "allow-bind any default", "max-ports 1024 default",
	}
	if got := explain("mail"); !slices.Equal(got, wantApp) {
		t.Errorf("the app's are %q\nwant %q", got, wantApp)
	}
	wantGlobal := []string{
		"engine haproxy global", "upstream auto default", "check-timeout 30s default", "hold 1m global", "drain-wait 1m global",
		"old-connections keep default", "kustomize on default", "worker-deadline 24h default", "check connect default", "health-check 2s default",
		"allow any default", "proxy-protocol off default", "accept-proxy none default", "max-connections 0 default", "total-connections 0 default",
		"rate off default", "idle-timeout 0 default", "half-closed-timeout 60s default", "balance leastconn default", "tls off default", "alpn none default", "starttls off default", "cert own default", "client-ca none default",
		"stats-listen 127.0.0.1:8404 default", "reserved-ports 22,80,443 default", "allowed-ports 1-65535 default", "allowed-hosts any default", "allow-bind any default", "max-ports 1024 default",
	}
	if got := explain(Global); !slices.Equal(got, wantGlobal) {
		t.Errorf("the host's are %q\nwant %q", got, wantGlobal)
	}
}
