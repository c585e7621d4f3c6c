package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

func TestSummarize(t *testing.T) {
	for _, row := range []struct {
		name          string
		args          []string
		has, hasNot   []string
		last          string
		wantExitError bool
	}{
		{
			name:   "a package that passes is one line",
			args:   []string{"-run=TestPasses", "./testdata/sample"},
			has:    []string{"ok  \t"},
			hasNot: []string{"nobody needs", "PASS", "Skipped"},
		},
		{
			name:          "of a failing package the failing tests are shown",
			args:          []string{"-run=TestPasses|TestFails", "./testdata/sample"},
			has:           []string{"--- FAIL: TestFails", "--- FAIL: TestFails/row_one", "sample_test.go:8: what went wrong", "FAIL\tdokku-expose/"},
			hasNot:        []string{"nobody needs", "nor this", "=== RUN"},
			wantExitError: true,
		},
		{
			name:   "skips are counted by reason",
			args:   []string{"-run=TestSkipped", "./testdata/sample"},
			has:    []string{"ok  \t", "Skipped tests: 2\n"},
			hasNot: []string{"--- SKIP"},
			last:   "    2  this test needs a moon",
		},
		{
			name:          "a panic is shown with what its test said before",
			args:          []string{"-run=TestPanics", "./testdata/sample"},
			has:           []string{"said before the panic", "panic: out of the blue", "FAIL\tdokku-expose/"},
			wantExitError: true,
		},
		{
			name:          "what does not build is shown",
			args:          []string{"./testdata/absent"},
			has:           []string{"testdata/absent", "FAIL"},
			wantExitError: true,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			events, err := exec.Command("go", append([]string{"test", "-json", "-count=1"}, row.args...)...).CombinedOutput()
			if (err != nil) != row.wantExitError {
				t.Fatalf("go test: %v\n%s", err, events)
			}
			var out strings.Builder
			if err := summarize(bytes.NewReader(events), &out); err != nil {
				t.Fatal(err)
			}
			got := out.String()
			for _, s := range row.has {
				if !strings.Contains(got, s) {
					t.Errorf("%q is missing in:\n%s", s, got)
				}
			}
			for _, s := range row.hasNot {
				if strings.Contains(got, s) {
					t.Errorf("%q should not be in:\n%s", s, got)
				}
			}
			if lines := strings.Split(strings.TrimRight(got, "\n"), "\n"); row.last != "" && lines[len(lines)-1] != row.last {
				t.Errorf("the last line is %q, want %q", lines[len(lines)-1], row.last)
			}
		})
	}
}
