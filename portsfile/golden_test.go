package portsfile_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/portsfile"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

// inputs returns the golden tests' PORTS files.
func inputs(tb testing.TB) []string {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.ports")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no testdata/*.ports: %v", err)
	}
	return files
}

// TestGolden reads each testdata/NAME.ports, and compares the canonical form, or all errors, with NAME.golden beside it.
func TestGolden(t *testing.T) {
	for _, input := range inputs(t) {
		name := strings.TrimSuffix(filepath.Base(input), ".ports")
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			entries, err := deploy.ParsePorts("PORTS", string(src))
			if wantErr := strings.HasPrefix(name, "error-"); wantErr != (err != nil) {
				t.Errorf("error is expected: %v, got: %v", wantErr, err)
			}
			got := portsfile.Format(mappings(entries))
			if err != nil {
				got = []byte(err.Error() + "\n")
			}
			golden := strings.TrimSuffix(input, ".ports") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s gives\n%swant\n%s", input, got, want)
			}
		})
	}
}

func mappings(entries []deploy.Entry) []deploy.Mapping {
	var ms []deploy.Mapping
	for _, e := range entries {
		ms = append(ms, e.Mapping)
	}
	return ms
}
