package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"dokku-expose/internal/need"
)

// TestMain lets the test's program be the proxies and the clients too, as the real one is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		main()
	}
	os.Exit(m.Run())
}

// TLS has a part of the same measurements.
func TestBenchmarkOfTLS(t *testing.T) {
	need.HAProxy(t)
	t.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-tls", "-rounds", "1", "-seconds", "0.2", "-only", "bulk1,connections"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit status %d: %s", code, &stderr)
	}
	table := parseTable(t, stdout.String())
	for _, p := range peers {
		if missing := strings.Contains(stdout.String(), p.title+" is left out"); (table[p.title] != nil) != (p.speaks(overTLS) && !missing) {
			t.Errorf("%s is in the table: %t\n%s", p.title, table[p.title] != nil, &stdout)
		}
	}
}

// Not for the figures: so that the benchmark still works when it is wanted.
func TestBenchmarkMeasuresAllThatThereIs(t *testing.T) {
	need.HAProxy(t)
	table := measureAll(t, overTCP)
	for _, title := range []string{halfClose, resetPassed, noneLost} {
		if table["built-in engine"][title] != "yes" || table["no proxy"][title] != "yes" {
			t.Errorf("%s: %q by the built-in engine, %q without a proxy", title, table["built-in engine"][title], table["no proxy"][title])
		}
	}
	if got := table["no proxy"]["idle connections held"]; got != "-" {
		t.Errorf("%s idle connections through no proxy", got)
	}
	if got, _, _ := strings.Cut(table["built-in engine"]["idle connections held"], " "); got != "100" {
		t.Errorf("the built-in engine held %s of 100 idle connections", got)
	}
}

func TestBenchmarkOfUDP(t *testing.T) {
	table := measureAll(t, overUDP, "-udp", "-rate", "1000")
	if got, _, _ := strings.Cut(table["built-in engine"]["idle sessions held"], " "); got != "100" {
		t.Errorf("the built-in engine held %s of 100 idle sessions", got)
	}
}

// measureAll returns the table of a short run, which has a value wherever there is one.
func measureAll(t *testing.T, m mode, args ...string) map[string]map[string]string {
	t.Helper()
	// The race detector has each process wait for a second at its end.
	t.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), append(args, "-rounds", "1", "-seconds", "0.2", "-idle", "100"), &stdout, &stderr)
	if code != 0 {
		t.Fatalf("exit status %d: %s", code, &stderr)
	}
	t.Logf("\n%s", &stdout)
	table := parseTable(t, stdout.String())
	for _, p := range peers {
		if !p.speaks(m) {
			continue
		}
		column, there := table[p.title]
		if !there {
			if !strings.Contains(stdout.String(), p.title+" is left out") {
				t.Errorf("%s is not in the table, and nothing says why", p.title)
			}
			continue
		}
		for _, k := range m.kinds() {
			for _, row := range k.rows {
				cell := column[row.title]
				// Without a proxy there is none whose cost could be measured.
				if want := p.command != nil || !(k.name == idle || strings.HasPrefix(row.title, "CPU")); (cell != "-") != want || cell == "" {
					t.Errorf("%s: %s is %q", p.title, row.title, cell)
				}
			}
		}
	}
	return table
}

// parseTable reads a table in Markdown, by column and row.
func parseTable(t *testing.T, text string) map[string]map[string]string {
	t.Helper()
	var heading []string
	table := make(map[string]map[string]string)
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| -") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if heading == nil {
			heading = cells
			for _, title := range heading[1:] {
				table[title] = make(map[string]string)
			}
			continue
		}
		for i, cell := range cells[1:] {
			table[heading[i+1]][cells[0]] = cell
		}
	}
	return table
}

func TestChoiceOfPeersAndMeasures(t *testing.T) {
	for _, tt := range []struct{ list, want string }{
		{"", "builtin,haproxy,splice,auto,nginx,stunnel,docker,plain,direct"},
		{"plain,builtin", "builtin,plain"},
		{"direct", "direct"},
	} {
		chosen, err := choose(peers, peer.key, tt.list)
		if got := names(chosen, peer.key); err != nil || got != tt.want {
			t.Errorf("%q: got %s, %v, want %s", tt.list, got, err, tt.want)
		}
	}
	for _, args := range [][]string{{"-peers", "squid"}, {"-only", "bulk"}, {"-udp", "-only", "checks"}, {"-udp", "-tls"}, {"-rounds", "0"}, {"-seconds", "-1"}, {"all"}} {
		var stderr bytes.Buffer
		if code := run(context.Background(), args, nil, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit status %d, %q", args, code, &stderr)
		}
	}
}
