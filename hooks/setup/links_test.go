package setup

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestLink(t *testing.T) {
	const target = "/usr/local/lib/dokku-expose/dokku-expose"
	for _, row := range []struct {
		name string
		// before and after name the links of the tree with their targets; "" is a regular file, "/" a folder.
		before, after map[string]string
		wanted        []string
		changed       bool
		err           bool
	}{
		{
			name:    "a new tree",
			wanted:  []string{"commands", "post-deploy", "subcommands/list"},
			after:   map[string]string{"commands": target, "post-deploy": target, "subcommands": "/", "subcommands/list": target},
			changed: true,
		},
		{
			name:   "nothing to do",
			before: map[string]string{"commands": target, "subcommands": "/", "subcommands/list": target},
			wanted: []string{"commands", "subcommands/list"},
			after:  map[string]string{"commands": target, "subcommands": "/", "subcommands/list": target},
		},
		{
			name:    "links of an older version go, other files stay",
			before:  map[string]string{"post-stop": target, "install": "", "other": "/bin/true", "subcommands": "/", "subcommands/old": target},
			wanted:  []string{"commands"},
			after:   map[string]string{"commands": target, "install": "", "other": "/bin/true", "subcommands": "/"},
			changed: true,
		},
		{
			name:    "a link to somewhere else is replaced",
			before:  map[string]string{"commands": "/opt/old/dokku-expose", "subcommands": "/"},
			wanted:  []string{"commands"},
			after:   map[string]string{"commands": target, "subcommands": "/"},
			changed: true,
		},
		{
			name:    "what an interrupted run left is cleared",
			before:  map[string]string{".commands.new": "/opt/old/dokku-expose", "subcommands": "/"},
			wanted:  []string{"commands"},
			after:   map[string]string{"commands": target, "subcommands": "/"},
			changed: true,
		},
		{
			name:   "a file is never replaced",
			before: map[string]string{"post-deploy": "", "subcommands": "/"},
			wanted: []string{"post-deploy"},
			after:  map[string]string{"post-deploy": "", "subcommands": "/"},
			err:    true,
		},
		{
			name:    "removal takes the links only",
			before:  map[string]string{"commands": target, "install": "", "other": "/bin/true", "subcommands": "/", "subcommands/list": target},
			after:   map[string]string{"install": "", "other": "/bin/true"},
			changed: true,
		},
		{
			name:   "a link out of the tree is not followed",
			before: map[string]string{"subcommands": "/tmp"},
			wanted: []string{"subcommands/list"},
			after:  map[string]string{"subcommands": "/tmp"},
			err:    true,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			tree := t.TempDir()
			for name, to := range row.before {
				plant(t, filepath.Join(tree, name), to)
			}
			changed, err := link(tree, target, row.wanted, owner{os.Getuid(), os.Getgid()})
			if (err != nil) != row.err {
				t.Fatalf("error: %v", err)
			}
			if changed != row.changed {
				t.Errorf("changed is %v, want %v", changed, row.changed)
			}
			if got := planted(t, tree); !maps.Equal(got, row.after) {
				t.Errorf("the tree is %q, want %q", got, row.after)
			}
		})
	}
}

func plant(t *testing.T, path, to string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	switch to {
	case "":
		err = errors.Join(err, os.WriteFile(path, nil, 0o644))
	case "/":
		err = errors.Join(err, os.MkdirAll(path, 0o755))
	default:
		err = errors.Join(err, os.Symlink(to, path))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func planted(t *testing.T, tree string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS(tree), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		switch {
		case e.IsDir():
			found[name] = "/"
		case e.Type() == fs.ModeSymlink:
			found[name], err = os.Readlink(filepath.Join(tree, name))
		default:
			found[name] = ""
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
