package stats

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dokku-expose/deploy"

	"github.com/prometheus/client_golang/prometheus"
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
