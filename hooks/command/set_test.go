package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dokku-expose/hooks/host"
)

func TestReadValue(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("of a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, path, stdin, want, wrong string }{
		{"a file", file, "of stdin", "of a file", ""},
		{"stdin", "-", "of stdin", "of stdin", ""},
		{"as long as may be", "-", strings.Repeat("x", maxValue), strings.Repeat("x", maxValue), ""},
		{"too long", "-", strings.Repeat("x", maxValue+1), "", "- is longer than 64 KiB"},
		{"no file", file + ".none", "", "", "give it on stdin"},
		{"a folder", filepath.Dir(file), "", "", "is a directory"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := readValue(&host.Host{Stdin: strings.NewReader(row.stdin)}, row.path)
			if row.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), row.wrong) {
					t.Errorf("got %v, want %q", err, row.wrong)
				}
				return
			}
			if err != nil || got != row.want {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(row.want))
			}
		})
	}
}
