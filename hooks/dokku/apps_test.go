package dokku

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestValidName(t *testing.T) {
	for _, app := range []string{"mail", "a", "7", "my-app", "my.app", "my_app", "a..b", strings.Repeat("a", 300)} {
		if err := ValidName(app); err != nil {
			t.Errorf("%q: %v", app, err)
		}
	}
	for _, app := range []string{
		"", ".", "..", "../x", "a/b", "a/../b", "/etc", "-x", "_x", ".x", "--global", "Mail", "a b", "a\nb", "mail\n", "a\x00", "ä",
	} {
		if ValidName(app) == nil {
			t.Errorf("%q passes for the name of an app", app)
		}
	}
}

func TestApps(t *testing.T) {
	e := host(t, map[string]string{
		"root/mail/": "", "root/a_b/": "", "root/web.1/": "",
		"root/.ssh/": "", "root/Upper/": "", "root/lost+found/": "",
		"root/ENV": "", "root/file": "", "elsewhere/": "",
	})
	for link, target := range map[string]string{"linked": "../elsewhere", "dangling": "../nowhere", "tofile": "file"} {
		if err := os.Symlink(target, filepath.Join(e.Root, link)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := e.Apps()
	if want := []string{"a_b", "linked", "mail", "web.1"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("apps %q, %v; want %q", got, err, want)
	}

	e.Root = filepath.Join(e.Root, "nowhere")
	if got, err := e.Apps(); err == nil {
		t.Errorf("a folder that is not there has the apps %q; want an error", got)
	}
}

func TestVerify(t *testing.T) {
	e := host(t, map[string]string{"root/mail/": "", "root/file": "", "lib/secret/": ""})
	for _, tt := range []struct {
		name, app string
		exists    bool
		code      int
		message   string
	}{
		{name: "an app", app: "mail", exists: true},
		{name: "no app", app: "nope", code: 20, message: "App nope does not exist"},
		{name: "a file", app: "file", code: 20, message: "App file does not exist"},
		{name: "a path out of the root", app: "../lib/secret", code: 1, message: `"../lib/secret" can't be an app`},
		{name: "the root itself", app: ".", code: 1, message: `"." can't be an app`},
		{name: "nothing", app: "", code: 1, message: "no app was named"},
		{name: "longer than a file's name may be", app: strings.Repeat("a", 300), code: 20, message: "does not exist"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := e.Exists(tt.app); err != nil || got != tt.exists {
				t.Errorf("exists: %t, %v; want %t", got, err, tt.exists)
			}
			err := e.Verify(tt.app)
			if code := ExitCode(err); code != tt.code {
				t.Errorf("exit code %d (%v), want %d", code, err, tt.code)
			}
			if tt.message != "" && !strings.Contains(fmt.Sprint(err), tt.message) {
				t.Errorf("error %v, want one with %q", err, tt.message)
			}
		})
	}
}

func TestExitCode(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want int
	}{
		{"nothing wrong", nil, 0},
		{"any error", errors.New("x"), 1},
		{"an app that is not there", NoApp("x"), 20},
		{"wrapped", fmt.Errorf("x: %w", NoApp("x")), 20},
		{"somebody else's command", Env{NotImplementedExit: 10}.NotImplemented(), 10},
	} {
		if got := ExitCode(tt.err); got != tt.want {
			t.Errorf("%s: exit code %d, want %d", tt.name, got, tt.want)
		}
	}
}
