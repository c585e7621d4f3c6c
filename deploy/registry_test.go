package deploy_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
)

func TestReadmeListsAllOptions(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := "| option | default | meaning |\n| --- | --- | --- |\n| `process=TYPE` | `web` | the process type of the Procfile that serves the port |\n" +
		"| `host=NAME,...` | all others | the host names that clients ask for with TLS; `*.example.com` stands for any one label. Several mappings share a port by their names |\n"
	for _, o := range deploy.Registry() {
		rows += fmt.Sprintf("| `%s=%s` | the setting | %s |\n", o.Key, strings.ReplaceAll(o.Value, "|", `\|`), o.Doc)
	}
	if !strings.Contains(string(text), rows+"\n") {
		t.Errorf("the README's table of options should be:\n%s", rows)
	}
}

func TestNetworks(t *testing.T) {
	prefixes := func(list ...string) (found []netip.Prefix) {
		for _, s := range list {
			found = append(found, netip.MustParsePrefix(s))
		}
		return found
	}
	for _, tt := range []struct {
		text string
		want []netip.Prefix
	}{
		{"none", nil},
		{"10.0.0.0/8", prefixes("10.0.0.0/8")},
		{"::1,192.0.2.1", prefixes("192.0.2.1/32", "::1/128")},
		{"::/0,0.0.0.0/0", prefixes("0.0.0.0/0", "::/0")},
		{"10.128.0.0/9, 10.0.0.0/8 ,10.0.0.0/9", prefixes("10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9")},
	} {
		t.Run(tt.text, func(t *testing.T) {
			n, err := deploy.ParseNetworks(tt.text)
			if err != nil || n.IsZero() || !slices.Equal(n.Prefixes(), tt.want) {
				t.Fatalf("got %v, %v, want %v", n.Prefixes(), err, tt.want)
			}
			if again := deploy.NetworksOf(n.Prefixes()...); again != n {
				t.Errorf("%q and %q are the same networks", again, n)
			}
		})
	}
	if n := (deploy.Networks{}); !n.IsZero() || n.String() != "" || n.Prefixes() != nil || n == deploy.NetworksOf() {
		t.Errorf("the zero value is %q", n)
	}
}

// A field of [deploy.Options] without a row is read nowhere, and one that two rows share is lost.
func TestEachFieldHasItsRow(t *testing.T) {
	rows := make(map[string]string)
	for _, o := range deploy.Registry() {
		value := reflect.ValueOf(enginetest.Sample(t, o))
		for i := range value.NumField() {
			if field := value.Type().Field(i).Name; !value.Field(i).IsZero() {
				if rows[field] != "" {
					t.Errorf("%s and %s are the same field %s", rows[field], o.Key, field)
				}
				rows[field] = o.Key
			}
		}
	}
	for i := range reflect.TypeFor[deploy.Options]().NumField() {
		if field := reflect.TypeFor[deploy.Options]().Field(i).Name; rows[field] == "" {
			t.Errorf("the field %s has no row in the registry", field)
		}
	}
}

// Engines get their options as JSON, and keep them as text.
func TestOptionsSurvive(t *testing.T) {
	everything := deploy.Options{}
	for _, o := range deploy.Registry() {
		if err := o.Set(&everything, strings.TrimPrefix(enginetest.Sample(t, o).String(), o.Key+"=")); err != nil {
			t.Errorf("the setting %s: %v", o.Key, err)
		}
	}
	everything.TLS = deploy.TerminateTLS
	for _, o := range append(samples(t), deploy.Options{}, everything) {
		if o.ALPN != "" || o.StartTLS != "" {
			o.TLS = deploy.TerminateTLS // PORTS has one beside the other only.
		}
		if read, err := deploy.ParseOptions(o.String()); err != nil || read != o || !o.Valid() {
			t.Errorf("%q is read as %q, %v", o, read, err)
		}
		encoded, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		var decoded deploy.Options
		if err := json.Unmarshal(encoded, &decoded); err != nil || decoded != o {
			t.Errorf("%s is decoded as %q, %v", encoded, decoded, err)
		}
	}
	for _, o := range deploy.Registry() {
		if err := o.Set(&everything, o.Default); err != nil {
			t.Errorf("the default of the setting %s: %v", o.Key, err)
		}
	}
	if everything != (deploy.Options{}) {
		t.Errorf("with all settings back at their defaults the options are %q", everything)
	}
	for _, text := range []string{"allow", "allow=10.0.0.0/8\n", "allow=x", "rate=1/10s rate=1/10s"} {
		if o, err := deploy.ParseOptions(text); err == nil {
			t.Errorf("%q is read as %q", text, o)
		}
	}
	for _, encoded := range []string{`{"Allow":"x"}`, `{"Allow":"10.0.0.1/8"}`, `{"Allow":"::1,10.0.0.0/8"}`, `{"Allow":"any"}`, `{"Allow":0}`} {
		var o deploy.Options
		if err := json.Unmarshal([]byte(encoded), &o); err == nil {
			t.Errorf("%s is decoded as %q", encoded, o)
		}
	}
}

func samples(t *testing.T) (all []deploy.Options) {
	for _, o := range deploy.Registry() {
		all = append(all, enginetest.Sample(t, o))
	}
	return all
}
