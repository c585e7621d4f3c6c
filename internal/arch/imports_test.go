package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "dokku-expose/"

// mayImport names for each room of the program the rooms that it may import; "hooks/..." is hooks and all below it. A new
// room needs a row. Arrows run one way: cmd -> hooks -> {deploy/source/..., engines, stats} -> deploy -> portsfile.
var mayImport = map[string][]string{
	"portsfile":            {},
	"deploy":               {"portsfile"},
	"deploy/source/docker": {"deploy"},
	"deploy/source/kube":   {"deploy"},
	"deploy/listeners":     {"deploy"},
	"templates":            {},
	"haproxy":              {"deploy", "deploy/listeners", "templates"},
	"proxy":                {"proxy/tcp", "proxy/tls", "proxy/udp", "deploy", "deploy/listeners"},
	"proxy/control":        {"proxy", "deploy"},
	"proxy/tcp":            {},
	"proxy/tls":            {"proxy/tcp"},
	"proxy/udp":            {},
	"stats":                {"deploy", "templates"},
	"hooks/dokku":          {},
	"hooks/settings":       {"hooks/dokku", "deploy", "portsfile"},
	"hooks/state":          {"hooks/dokku", "deploy", "portsfile"},
	"hooks/setup":          {"hooks/dokku", "templates"},
	"hooks/host":           {"hooks/dokku", "hooks/settings", "hooks/setup", "hooks/state", "deploy/...", "haproxy", "proxy/control", "portsfile"},
	"hooks/daemon":         {"hooks/host", "hooks/settings", "deploy/...", "haproxy", "proxy/control", "stats"},
	"hooks/command":        {"hooks/host", "hooks/dokku", "hooks/settings", "hooks/state", "deploy/...", "haproxy", "portsfile", "stats", "templates"},
	"hooks/kustomize":      {},
	"hooks/trigger":        {"hooks/host", "hooks/command", "hooks/dokku", "hooks/kustomize", "hooks/settings", "hooks/state", "deploy/...", "portsfile"},
	"hooks":                {"hooks/...", "deploy/...", "haproxy", "proxy/control", "portsfile", "templates"},
	"cmd/dokku-expose":     {"hooks"},
}

// isHelper tells whether a package is of the tests, the demo, the benchmarks or the Makefile. Such a package may import what it likes, and the
// program imports none.
func isHelper(room string) bool {
	for _, helper := range []string{"internal", "bench", "cmd/demo"} {
		if room == helper || strings.HasPrefix(room, helper+"/") {
			return true
		}
	}
	return strings.HasSuffix(room, "test")
}

func TestImports(t *testing.T) {
	list := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	out, err := list.Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		t.Fatalf("go list: %v\n%s", err, exit.Stderr)
	}
	seen := map[string]bool{}
	packages := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := packages.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		room := strings.TrimPrefix(p.ImportPath, module)
		seen[room] = true
		if isHelper(room) {
			continue
		}
		allowed, known := mayImport[room]
		if !known {
			t.Errorf("%s is a new room: say in mayImport what it may import", room)
			continue
		}
		for _, path := range p.Imports {
			if imported, ours := strings.CutPrefix(path, module); ours && !covers(allowed, imported) {
				t.Errorf("%s imports %s; it may import %v of ours", room, imported, allowed)
			}
		}
	}
	for room := range mayImport {
		if !seen[room] {
			t.Errorf("mayImport has a row for %s, which is no package", room)
		}
	}
}

func covers(allowed []string, room string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		above, all := strings.CutSuffix(a, "/...")
		return room == above || all && strings.HasPrefix(room, above+"/") && !isHelper(room)
	})
}
