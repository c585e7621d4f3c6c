package dokku

import (
	"reflect"
	"strings"
	"testing"
)

func TestFromEnviron(t *testing.T) {
	defaults := Env{
		Root: "/srv/dokku", LibRoot: "/var/lib/dokku", PluginPath: "/var/lib/dokku/plugins",
		User: "dokku", Group: "dokku", NotImplementedExit: 10,
	}
	for _, tt := range []struct {
		name string
		vars map[string]string
		want func(*Env)
		err  string
	}{
		{name: "defaults"},
		{
			name: "all that Dokku exports",
			vars: map[string]string{
				"DOKKU_LIB_ROOT": "/lib", "PLUGIN_PATH": "/plugins", "DOKKU_SYSTEM_USER": "u", "DOKKU_SYSTEM_GROUP": "g",
				"DOKKU_INIT_SYSTEM": "sv", "DOKKU_PID": "42", "DOKKU_APP_NAME": "mail", "DOKKU_QUIET_OUTPUT": "1",
				"DOKKU_NOT_IMPLEMENTED_EXIT": "11",
			},
			want: func(e *Env) {
				*e = Env{
					Root: "/srv/dokku", LibRoot: "/lib", PluginPath: "/plugins", User: "u", Group: "g", InitSystem: "sv",
					PID: 42, App: "mail", Quiet: true, NotImplementedExit: 11,
				}
			},
		},
		{
			name: "the plugins' folder follows the library's",
			vars: map[string]string{"DOKKU_LIB_PATH": "/lib"},
			want: func(e *Env) { e.LibRoot, e.PluginPath = "/lib", "/lib/plugins" },
		},
		{
			name: "an exit code that is none",
			vars: map[string]string{"DOKKU_NOT_IMPLEMENTED_EXIT": "ten"},
		},
		{name: "a relative root", vars: map[string]string{"DOKKU_ROOT": "dokku"}, err: `DOKKU_ROOT is "dokku"`},
		{name: "a relative library", vars: map[string]string{"DOKKU_LIB_ROOT": "./lib"}, err: `DOKKU_LIB_ROOT is "./lib"`},
		{name: "a process id that is none", vars: map[string]string{"DOKKU_PID": "x"}, err: `DOKKU_PID is "x"`},
		{name: "a process id below one", vars: map[string]string{"DOKKU_PID": "-1"}, err: `DOKKU_PID is "-1"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := FromEnviron(func(key string) string {
				if value, ok := tt.vars[key]; ok || key != "DOKKU_ROOT" {
					return value
				}
				return "/srv/dokku"
			})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			want := defaults
			if tt.want != nil {
				tt.want(&want)
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, want)
			}
		})
	}
	t.Run("without a root", func(t *testing.T) {
		got, err := FromEnviron(func(string) string { return "" })
		if err != nil || !strings.HasPrefix(got.Root, "/") {
			t.Errorf("root %q, %v; want user dokku's home or Debian's default for it", got.Root, err)
		}
	})
	t.Run("folders", func(t *testing.T) {
		e := Env{LibRoot: "/lib"}
		if e.SettingsDir() != "/lib/config/expose" || e.DataDir() != "/lib/data/expose" {
			t.Errorf("folders %s and %s", e.SettingsDir(), e.DataDir())
		}
	})
}
