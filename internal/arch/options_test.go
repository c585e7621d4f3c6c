package arch

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/hooks/settings"
	"dokku-expose/internal/testcert"
)

// TestOptionsArrive follows each option of the registry from a line of PORTS, and from the setting of the same name, to the app's route
// and HAProxy's configuration. What an engine makes of it in the end is for enginetest, which has tests of each option.
func TestOptionsArrive(t *testing.T) {
	h := haproxytest.New(t)
	line := fmt.Sprintf("%d:5025 ", enginetest.FreePort(t))
	nothing := func(settings.Store) error { return nil }
	for _, o := range deploy.Registry() {
		t.Run(o.Key, func(t *testing.T) {
			want := enginetest.Sample(t, o)
			line, asked := line, want.String()
			set := func(s settings.Store) error { return s.Set("mail", o.Key, strings.TrimPrefix(asked, o.Key+"=")) }
			if want.Complete(deploy.TCP, false) != nil {
				line += "tls=terminate "
				want.TLS = deploy.TerminateTLS
			}
			plain := configuration(t, h, routes(t, line, nothing))
			for from, table := range map[string]deploy.Table{
				"PORTS": routes(t, line+asked, nothing), "the setting": routes(t, line, set),
			} {
				if got := table.Routes[0].Options; got != want {
					t.Errorf("from %s the route gets %q, want %q", from, got, want)
				}
				if errors.Is(h.Engine.Supports(table.Routes[0]), deploy.ErrUnsupported) {
					continue // The other engine gets it.
				}
				if configuration(t, h, table) == plain {
					t.Errorf("from %s HAProxy's configuration has nothing of it", from)
				}
			}
		})
	}
}

// routes is the table of an app with a line of PORTS and settings, whose container is not there.
func routes(t *testing.T, line string, set func(settings.Store) error) deploy.Table {
	t.Helper()
	s := settings.Store{Dir: t.TempDir()}
	if err := set(s); err != nil {
		t.Fatal(err)
	}
	values, err := s.Effective("mail")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := deploy.ParsePorts("PORTS", line)
	if err != nil {
		t.Fatal(err)
	}
	cert := testcert.New(t, time.Hour, "mail.example.com")
	return deploy.Plan(deploy.Snapshot{Apps: []deploy.App{{
		Name: "mail", Current: "image", Images: map[string][]deploy.Claim{"image": deploy.FileClaims("mail", "PORTS", entries)},
		Certificate: deploy.Certificate{Chain: cert.Chain, Key: cert.Key, ID: "cert"},
		Places:      []deploy.Place{{Process: "web", Dyno: "web.1", Container: "container"}}, Options: values.Policy.Options, Hold: values.Hold, HealthCheck: values.HealthCheck,
	}}}, nil).Table
}

// configuration is what HAProxy is told of a table's only route, without comments.
func configuration(t *testing.T, h *haproxytest.HAProxy, table deploy.Table) string {
	t.Helper()
	if err := h.Engine.Prepare(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(h.Config.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\nlisten ")
	if !found {
		t.Fatalf("the configuration has no route:\n%s", text)
	}
	return regexp.MustCompile(`(?m)^ *#.*\n`).ReplaceAllString(section, "")
}
