package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/portsfile"
)

// store makes a folder of settings with the texts of the files of scopes.
func store(t *testing.T, texts map[string]string) Store {
	t.Helper()
	s := Store{Dir: filepath.Join(t.TempDir(), "expose")}
	for scope, text := range texts {
		put(t, s, scope, text)
	}
	return s
}

func put(t *testing.T, s Store, scope, text string) {
	t.Helper()
	path, err := s.path(scope)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// text returns the text of a scope's file, "(none)" when there is none.
func text(t *testing.T, s Store, scope string) string {
	t.Helper()
	path, err := s.path(scope)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "(none)"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mappings(t *testing.T, lines ...string) []deploy.Mapping {
	t.Helper()
	var ms []deploy.Mapping
	for _, line := range lines {
		m, err := deploy.ParseMapping(line)
		if err != nil {
			t.Fatal(err)
		}
		ms = append(ms, m)
	}
	return ms
}

func TestSet(t *testing.T) {
	for _, tt := range []struct {
		name, before, scope, key, value, want string
	}{
		{name: "the first setting", before: "(none)", key: "hold", value: "30s", want: "hold = \"30s\"\n"},
		{name: "one more", before: "hold = \"30s\"\n", key: "drain-wait", value: "1m", want: "hold = \"30s\"\ndrain-wait = \"1m\"\n"},
		{name: "no line end at the end", before: `hold = "30s"`, key: "drain-wait", value: "1m", want: "hold = \"30s\"\ndrain-wait = \"1m\"\n"},
		{
			name:   "another value, the comments stay",
			before: "# mail\n\n  hold = '30s'\t# slow # very\n\n# end\n", key: "hold", value: "5s",
			want: "# mail\n\n  hold = \"5s\" # slow # very\n\n# end\n",
		},
		{name: "a number in the file", before: "max-ports = 1_000 # many\n", key: "max-ports", value: "7", want: "max-ports = \"7\" # many\n"},
		{name: "a key in quotes", before: "\"hold\"=\"30s\"\n", key: "hold", value: "5s", want: "hold = \"5s\"\n"},
		{name: "a # in a value", before: "ports-file = \"a#b\" # c\n", key: "ports-file", value: "d", want: "ports-file = \"d\" # c\n"},
		{name: "a text of several lines", before: "hold = \"\"\"\n30s\"\"\" # c\n# d\n", key: "hold", value: "5s", want: "hold = \"5s\" # c\n# d\n"},
		{name: "Windows' line ends", before: "hold = \"30s\" # c\r\n", key: "drain-wait", value: "1m", want: "hold = \"30s\" # c\r\ndrain-wait = \"1m\"\r\n"},
		{name: "Windows' line end of the value", before: "hold = \"30s\" # c\r\n", key: "hold", value: "1m", want: "hold = \"1m\" # c\r\n"},
		{name: "a byte order mark", before: "\ufeffhold = \"30s\"\n# c\n", key: "hold", value: "", want: "\ufeff# c\n"},
		{name: "a byte order mark and a comment", before: "\ufeffhold = \"30s\" # c\n", key: "hold", value: "", want: "\ufeff# c\n"},
		{name: "the default again", before: "hold = \"30s\"\ndrain-wait = \"1m\"\n", key: "hold", value: "", want: "drain-wait = \"1m\"\n"},
		{name: "the default, and a comment stays", before: "hold = \"30s\" # c\n", key: "hold", value: "", want: "# c\n"},
		{name: "the last setting goes, and the file", before: "\n\nhold = \"30s\"\n", key: "hold", value: "", want: "(none)"},
		{name: "the default of what is not set", before: "# c\n", key: "hold", value: "", want: "# c\n"},
		{name: "the default, without a file", before: "(none)", key: "hold", value: "", want: "(none)"},
		{name: "the same value in other words", before: "hold='30s'\n", key: "hold", value: "30s", want: "hold = \"30s\"\n"},
		{
			name: "beside mappings", before: "mappings = [ \"25:5025\" ]\ndisabled=true\n", key: "hold", value: "1s",
			want: "mappings = [ \"25:5025\" ]\ndisabled=true\nhold = \"1s\"\n",
		},
		{name: "quotes in a path", before: "(none)", key: "ports-file", value: `a"b\c`, want: "ports-file = \"a\\\"b\\\\c\"\n"},
		{name: "letters of the world in a path", before: "(none)", key: "ports-file", value: "häfen", want: "ports-file = \"häfen\"\n"},
		{name: "for the host", before: "(none)", scope: Global, key: "engine", value: "haproxy", want: "engine = \"haproxy\"\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scope := tt.scope
			if scope == "" {
				scope = "mail"
			}
			s := store(t, nil)
			if tt.before != "(none)" {
				put(t, s, scope, tt.before)
			}
			if err := s.Set(scope, tt.key, tt.value); err != nil {
				t.Fatal(err)
			}
			if got := text(t, s, scope); got != tt.want {
				t.Errorf("the file is\n%q\nwant\n%q", got, tt.want)
			}
		})
	}
}

func TestSetRefused(t *testing.T) {
	for _, tt := range []struct {
		name, scope, before, key, value, want string
	}{
		{name: "an unknown key", scope: "mail", key: "holt", value: "1s", want: `there is no setting "holt": did you mean hold? known are upstream, ports-file,`},
		{name: "an unknown key far off", scope: "mail", key: "frobnicate", value: "1", want: `there is no setting "frobnicate": known are upstream,`},
		{name: "no key", scope: "mail", key: "", value: "1", want: `there is no setting ""`},
		{name: "mappings are no setting", scope: "mail", key: "mappings", value: "25:25", want: `there is no setting "mappings"`},
		{name: "the host's, for an app", scope: "mail", key: "engine", value: "haproxy", want: "dokku expose:set --global engine VALUE"},
		{name: "an app's, for the host", scope: Global, key: "ports-file", value: "P", want: "dokku expose:set APP ports-file VALUE"},
		{name: "a value that is none", scope: "mail", key: "hold", value: "long", want: `hold: "long" is not a time`},
		{name: "a file that is broken", scope: "mail", before: "# c\nhold = 30s\n", key: "hold", value: "1s", want: "mail.toml:2: "},
		{name: "a file with a wrong value elsewhere", scope: "mail", before: "hold = \"x\"\n", key: "drain-wait", value: "1s", want: "mail.toml:1: hold: "},
		{name: "a path instead of an app", scope: "../mail", key: "hold", value: "1s", want: "can't be an app"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := store(t, nil)
			if tt.before != "" {
				put(t, s, tt.scope, tt.before)
			}
			err := s.Set(tt.scope, tt.key, tt.value)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if tt.before != "" && text(t, s, tt.scope) != tt.before {
				t.Errorf("the file was changed to %q", text(t, s, tt.scope))
			}
		})
	}
}

func TestSetMappings(t *testing.T) {
	for _, tt := range []struct {
		name, before string
		mappings     []string
		want         string
	}{
		{name: "the first", before: "(none)", mappings: []string{"25:5025"}, want: "mappings = [\n  \"25:5025\",\n]\n"},
		{
			name: "one more, and the comments stay", before: "# a\nmappings = [ # b\n  # c\n  '25:5025', # d\n\n  # e\n] # f\n# g\n",
			mappings: []string{"25:5025", "[::1]:993:5993 process=imap"},
			want:     "# a\nmappings = [\n  # b\n  # c\n  \"25:5025\", # d\n  \"[::1]:993:5993 process=imap\",\n  # e\n] # f\n# g\n",
		},
		{
			name: "one less, and the comments stay", before: "mappings = [\n  # a\n  \"25:5025\", # b\n  # c\n  \"26:5025\" # d\n]\n",
			mappings: []string{"26:5025"},
			want:     "mappings = [\n  # a\n  # b\n  # c\n  \"26:5025\", # d\n]\n",
		},
		{
			name: "the last goes, and the comments stay", before: "hold = \"1s\"\nmappings = [\n  # a\n  \"25:5025\", # b\n] # c\n",
			want: "hold = \"1s\"\n# a\n# b\n# c\n",
		},
		{name: "all go, and the file", before: "mappings = [\"25:5025\"]\n", want: "(none)"},
		{
			name: "several in a line", before: "mappings = [\"25:5025\", \"26:5026\" , # a\n\"27:5027\"]\n",
			mappings: []string{"27:5027", "26:5026"},
			want:     "mappings = [\n  \"27:5027\",\n  \"26:5026\", # a\n]\n",
		},
		{
			name: "commas in front", before: "mappings = [\n  \"25:5025\"\n  , \"26:5026\"\n  ,\n]\n",
			mappings: []string{"25:5025"}, want: "mappings = [\n  \"25:5025\",\n]\n",
		},
		{name: "the same in other words", before: "mappings = [ \"25:5025 process=web\" ]\n", mappings: []string{"25:5025"}, want: "mappings = [\n  \"25:5025\",\n]\n"},
		{name: "Windows' line ends", before: "mappings = [\r\n  \"25:5025\", # a\r\n]\r\n", mappings: []string{"25:5025", "26:26"}, want: "mappings = [\r\n  \"25:5025\", # a\r\n  \"26:26\",\r\n]\r\n"},
		{name: "a byte order mark", before: "\ufeffmappings = [\n  # a\n  \"25:5025\"]\n", want: "\ufeff# a\n"},
		{name: "none, and none before", before: "# a\n", want: "# a\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := store(t, nil)
			if tt.before != "(none)" {
				put(t, s, "mail", tt.before)
			}
			want := mappings(t, tt.mappings...)
			if err := s.SetMappings("mail", want); err != nil {
				t.Fatal(err)
			}
			if got := text(t, s, "mail"); got != tt.want {
				t.Errorf("the file is\n%s\nwant\n%s", got, tt.want)
			}
			got, err := s.Load("mail")
			if err != nil || string(portsfile.Format(got.Mappings)) != string(portsfile.Format(want)) {
				t.Errorf("read back %v, %v; want %v", got.Mappings, err, want)
			}
		})
	}
	t.Run("that overlap", func(t *testing.T) {
		s := store(t, map[string]string{"mail": "# a\n"})
		err := s.SetMappings("mail", mappings(t, "25:5025", "127.0.0.1:20-30:20-30"))
		if err == nil || !strings.Contains(err.Error(), "entry 2") || !strings.Contains(err.Error(), "entry 1") {
			t.Errorf("error %v, want one that names entries 2 and 1", err)
		}
	})
	t.Run("written in a way that can't be edited", func(t *testing.T) {
		const before = "mappings = [\"\"\"\n25:5025\"\"\"]\n"
		s := store(t, map[string]string{"mail": before})
		err := s.SetMappings("mail", mappings(t, "26:26"))
		if err == nil || !strings.Contains(err.Error(), "please do it by hand") || text(t, s, "mail") != before {
			t.Errorf("error %v, file %q; want an error and no change", err, text(t, s, "mail"))
		}
	})
}

// A list of a thousand lines is the longest there is; its lines must not be parsed over and over.
func TestSetBesideManyMappings(t *testing.T) {
	var b strings.Builder
	b.WriteString("mappings = [\n")
	for i := range portsfile.MaxPorts {
		fmt.Fprintf(&b, "  \"%d:%d\", # number %d\n", 2000+i, 2000+i, i)
	}
	b.WriteString("]\n")
	s := store(t, map[string]string{"mail": b.String()})
	if err := s.Set("mail", "hold", "1s"); err != nil {
		t.Fatal(err)
	}
	if got, want := text(t, s, "mail"), b.String()+"hold = \"1s\"\n"; got != want {
		t.Errorf("the file is %q", got)
	}
}

func TestDisabled(t *testing.T) {
	s := store(t, map[string]string{"mail": "# a\n"})
	for _, tt := range []struct {
		disabled bool
		want     string
	}{{true, "# a\ndisabled = true\n"}, {true, "# a\ndisabled = true\n"}, {false, "# a\n"}, {false, "# a\n"}} {
		if err := s.SetDisabled("mail", tt.disabled); err != nil {
			t.Fatal(err)
		}
		app, err := s.Load("mail")
		if got := text(t, s, "mail"); got != tt.want || err != nil || app.Disabled != tt.disabled {
			t.Errorf("the file is %q, read as %t, %v; want %q", got, app.Disabled, err, tt.want)
		}
	}
	if err := s.SetDisabled(Global, true); err == nil {
		t.Error("the whole host can be disabled; want an error")
	}
}

func TestRenameCloneRemove(t *testing.T) {
	const own = "# a\nhold = \"1s\"\nmappings = [\n  # b\n  \"25:5025\",\n]\n"
	do := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(t *testing.T, s Store, scope, want string) {
		t.Helper()
		if got := text(t, s, scope); got != want {
			t.Errorf("the file of %s is %q, want %q", scope, got, want)
		}
	}
	t.Run("rename", func(t *testing.T) {
		s := store(t, map[string]string{"mail": own, "post": "hold = \"9s\"\n"})
		do(t, s.Rename("mail", "post"))
		check(t, s, "mail", "(none)")
		check(t, s, "post", own)
	})
	t.Run("rename an app without settings", func(t *testing.T) {
		s := store(t, map[string]string{"post": own})
		do(t, s.Rename("mail", "post"))
		check(t, s, "post", "(none)")
	})
	t.Run("rename without a folder", func(t *testing.T) { do(t, store(t, nil).Rename("mail", "post")) })
	t.Run("rename a broken file", func(t *testing.T) {
		s := store(t, map[string]string{"mail": "hold"})
		do(t, s.Rename("mail", "post"))
		check(t, s, "post", "hold")
	})
	t.Run("clone, but for the mappings", func(t *testing.T) {
		s := store(t, map[string]string{"mail": own})
		do(t, s.Clone("mail", "post"))
		check(t, s, "mail", own)
		check(t, s, "post", "# a\nhold = \"1s\"\n# b\n")
	})
	t.Run("clone an app with mappings only", func(t *testing.T) {
		s := store(t, map[string]string{"mail": "mappings = [\"25:5025\"]\n"})
		do(t, s.Clone("mail", "post"))
		check(t, s, "post", "(none)")
	})
	t.Run("clone an app without settings", func(t *testing.T) {
		s := store(t, map[string]string{"post": own})
		do(t, s.Clone("mail", "post"))
		check(t, s, "post", "(none)")
	})
	t.Run("remove", func(t *testing.T) {
		s := store(t, map[string]string{"mail": "hold", "post": own})
		do(t, s.Remove("mail"))
		do(t, s.Remove("mail"))
		check(t, s, "mail", "(none)")
		check(t, s, "post", own)
	})
	t.Run("paths instead of apps", func(t *testing.T) {
		s := store(t, map[string]string{"mail": own, Global: "hold = \"1s\"\n"})
		for _, app := range []string{"../global", "..", "", "a/b", Global + "/../mail"} {
			if s.Remove(app) == nil || s.Rename("mail", app) == nil || s.Rename(app, "mail") == nil ||
				s.Clone("mail", app) == nil || s.Clone(app, "mail") == nil {
				t.Errorf("%q is taken for an app", app)
			}
		}
		check(t, s, "mail", own)
		check(t, s, Global, "hold = \"1s\"\n")
	})
}
