package stats

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// One metric too many is left out and told of, and all others are there.
func TestMetricThatIsThereTwice(t *testing.T) {
	var log logBuffer
	o := options(t)
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	o.Observe = func(context.Context) (deploy.Observation, error) {
		f := observed()
		f.Routes = append(f.Routes, f.Routes[0])
		return f, nil
	}
	start(t, o)
	response, body := ask(t, o, http.MethodGet, "/metrics")
	for _, want := range []string{"dokku_expose_up 1", `dokku_expose_held_connections{app="mail",port="993",process="imap"} 6`} {
		if response.StatusCode != http.StatusOK || !strings.Contains(body, "\n"+want+"\n") {
			t.Fatalf("%s, and no line %s in:\n%s", response.Status, want, body)
		}
	}
	log.await(t, "dokku_expose_connections_total")
}

// TestReadmeListsAllMetrics keeps the README's table and this package's the same.
func TestReadmeListsAllMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(Collector(func(context.Context) (deploy.Observation, error) { return observed(), nil }), NewCounters())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range families {
		want = append(want, strings.TrimPrefix(f.GetName(), namespace+"_"))
	}
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| metric | |\n| --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var got []string
	for row := range strings.Lines(table) {
		names, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(names, -1) {
			got = append(got, name[1])
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the README's table of metrics names\n%s\nand there are\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestMetrics(t *testing.T) {
	o := options(t)
	o.Counters.Reconciled(20*time.Millisecond, 2, 1, nil)
	o.Counters.Reconciled(20*time.Millisecond, 0, 3, errors.New("no Docker"))
	start(t, o)
	_, body := ask(t, o, http.MethodGet, "/metrics")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	const mail = `{app="mail",port="25",process="web"}`
	const web1 = `{address="172.17.0.3:5025",app="mail",container="1f0c9a2b7d3e",dyno="web.1",port="25",process="web"}`
	for _, want := range []string{
		`dokku_expose_up 1`, `dokku_expose_info{engine="builtin",version="1.2.3"} 1`, `dokku_expose_max_connections 65000`,
		`dokku_expose_old_processes 1`, `dokku_expose_old_processes_open_connections 5`, `dokku_expose_reloads_total 3`,
		`dokku_expose_switch_duration_seconds_sum 0.25`, `dokku_expose_switch_duration_seconds_count 7`,
		`dokku_expose_reconcile_duration_seconds_count 2`, `dokku_expose_reconcile_errors_total 1`, `dokku_expose_heals_total 2`, `dokku_expose_problems 3`,
		`dokku_expose_open_connections` + mail + ` 24`, `dokku_expose_old_open_connections` + mail + ` 4`, `dokku_expose_connections_total` + mail + ` 12345`,
		`dokku_expose_failed_dials_total` + mail + ` 1`, `dokku_expose_unserved_connections_total` + mail + ` 2`, `dokku_expose_drained_connections_total` + mail + ` 3`,
		`dokku_expose_held_connections{app="mail",port="993",process="imap"} 6`, `dokku_expose_listening{app="gone",port="127.0.0.1:5432",process=""} 0`,
		`dokku_expose_tls_handshake_failures_total{app="mail",port="993",process="imap"} 7`,
		`dokku_expose_tls_connections_total{app="mail",port="993",process="imap",version="TLSv1.2"} 3`,
		`dokku_expose_certificate_not_after_seconds{app="mail",port="993",process="imap"} 1.893456e+09`,
		`dokku_expose_datagrams_total{app="dns",direction="in",port="53/udp",process="web"} 9`, `dokku_expose_datagrams_total{app="dns",direction="out",port="53/udp",process="web"} 8`,
		`dokku_expose_datagrams_dropped_total{app="dns",port="53/udp",process="web",reason="rate"} 2`,
		`dokku_expose_container_open_connections` + web1 + ` 20`, `dokku_expose_container_current` + web1 + ` 1`, `dokku_expose_container_connections_total` + web1 + ` 345`,
	} {
		if !strings.Contains(body, "\n"+want+"\n") {
			t.Errorf("there is no line %s", want)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}
