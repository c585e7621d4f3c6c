package arch

import (
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"dokku-expose/hooks"
)

const root = "../.."

// TestPluginFile reads plugin.toml as plugn does: without these keys `dokku plugin:list` or every trigger fails.
func TestPluginFile(t *testing.T) {
	var file struct {
		Plugin struct {
			Description, Version string
			Config               map[string]any
		}
	}
	meta, err := toml.DecodeFile(root+"/plugin.toml", &file)
	if err != nil {
		t.Fatal(err)
	}
	if file.Plugin.Description == "" || file.Plugin.Version == "" || !meta.IsDefined("plugin", "config") {
		t.Errorf("plugin.toml lacks the description, the version or [plugin.config]: %+v", file)
	}
}

// TestNoOtherCommandsFile looks for files that `dokku help` would execute.
func TestNoOtherCommandsFile(t *testing.T) {
	for _, name := range tracked(t) {
		if path.Base(name) == "commands" {
			t.Errorf("%s: `dokku help` executes every file and lists every folder of this name", name)
		}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if path.Base(dir) == "commands" {
				t.Errorf("%s: no folder may be called commands", name)
			}
		}
	}
}

// TestLinksAreIgnored: the links that an installation makes in the plugin's tree are no change to git.
func TestLinksAreIgnored(t *testing.T) {
	links := append([]string{"commands", "subcommands/default"}, hooks.Triggers()...)
	for _, name := range hooks.Subcommands() {
		links = append(links, "subcommands/"+name)
	}
	files := tracked(t)
	for _, name := range links {
		for _, file := range files {
			if file == name {
				t.Errorf("%s is tracked, but an installation makes a link of this name", name)
			}
		}
		if err := exec.Command("git", "-C", root, "check-ignore", "--quiet", name).Run(); err != nil {
			t.Errorf(".gitignore lacks /%s, a link that an installation makes: %v", name, err)
		}
	}
}

// TestScriptsAreExecutable: Dokku skips a trigger that is not.
func TestScriptsAreExecutable(t *testing.T) {
	for _, name := range []string{"install", "update", "uninstall", "scripts/place-binary"} {
		info, err := os.Stat(path.Join(root, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode()&0o111 != 0o111 {
			t.Errorf("%s is %s: it must be executable", name, info.Mode())
		}
	}
}

func tracked(t *testing.T) []string {
	t.Helper()
	if _, err := os.Stat(root + "/.git"); err != nil {
		t.Skip("this test needs a git checkout, not a release")
	}
	out, err := exec.Command("git", "-C", root, "-c", "safe.directory=*", "ls-files", "-z").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
}
