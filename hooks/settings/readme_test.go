package settings

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestReadmeListsAllSettings keeps the README's table and this package's the same.
func TestReadmeListsAllSettings(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	scopes := map[Scope]string{Both: "both", AppOnly: "app", GlobalOnly: "global"}
	var rows []string
	for _, k := range keys {
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |", k.Name, scopes[k.Scope], k.Default, k.Doc))
	}
	want := "| key | scope | default | meaning |\n| --- | --- | --- | --- |\n" + strings.Join(rows, "\n") + "\n"
	if !strings.Contains(string(text), want) {
		t.Errorf("the README's table of settings should be:\n%s", want)
	}
}
