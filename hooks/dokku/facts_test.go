package dokku

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFacts(t *testing.T) {
	scheduler := func(e Env) (any, error) { s, err := e.Scheduler("mail"); return string(s), err }
	web := func(e Env) (any, error) { return e.ChecksDisabled("mail", "web") }
	stopped := func(e Env) (any, error) { return e.Stopped("mail") }
	retire := func(e Env) (any, error) { return e.WaitToRetire("mail") }
	type files = map[string]string
	for _, tt := range []struct {
		name  string
		files files
		ask   func(Env) (any, error)
		want  any
		err   string
	}{
		{name: "the default scheduler", ask: scheduler, want: "docker-local"},
		{name: "the host's scheduler", files: files{"lib/config/scheduler/--global/selected": "k3s"}, ask: scheduler, want: "k3s"},
		{
			name:  "the app's scheduler",
			files: files{"lib/config/scheduler/--global/selected": "k3s", "lib/config/scheduler/mail/selected": "null"},
			ask:   scheduler, want: "null",
		},
		{name: "a property with a line end", files: files{"lib/config/scheduler/mail/selected": "k3s\n"}, ask: scheduler, want: "k3s"},
		{name: "an empty property", files: files{"lib/config/scheduler/mail/selected": ""}, ask: scheduler, want: "docker-local"},
		{name: "a property that is a folder", files: files{"lib/config/scheduler/mail/selected/": ""}, ask: scheduler, err: "not a regular file"},
		{name: "a plugin's folder that is a file", files: files{"lib/config/scheduler": ""}, ask: scheduler, want: "docker-local"},
		{
			name:  "a property without an end",
			files: files{"lib/config/scheduler/mail/selected": strings.Repeat("x", maxFile+1)}, ask: scheduler, err: "more than 1048576 bytes",
		},

		{name: "checks by default", ask: web, want: false},
		{name: "checks disabled for all", files: files{"lib/config/checks/mail/disabled": "_all_"}, ask: web, want: true},
		{name: "checks disabled for web", files: files{"lib/config/checks/mail/disabled": "worker,web"}, ask: web, want: true},
		{name: "checks disabled for another", files: files{"lib/config/checks/mail/disabled": "worker,web2"}, ask: web, want: false},
		{name: "checks skipped", files: files{"lib/config/checks/mail/skipped": "_all_"}, ask: web, want: false},
		{name: "another app's checks", files: files{"lib/config/checks/mail2/disabled": "_all_"}, ask: web, want: false},
		{
			name:  "checks disabled before 0.38",
			files: files{"root/mail/ENV": "A=\"x\\ny\"\nDOKKU_CHECKS_DISABLED=\"web\"\n"}, ask: web, want: true,
		},
		{
			name:  "checks disabled by an export of long ago",
			files: files{"root/mail/ENV": "export A='x'\nexport DOKKU_CHECKS_DISABLED='_all_'\n"}, ask: web, want: true,
		},
		{
			name:  "a variable that 0.38 has left behind",
			files: files{"root/mail/ENV": `DOKKU_CHECKS_DISABLED="web"`, migrated: "true"}, ask: web, want: false,
		},
		{
			name:  "a variable in the new place, which Dokku ignores",
			files: files{"lib/config/mail/ENV": `DOKKU_CHECKS_DISABLED="web"`, migrated: "true"}, ask: web, want: false,
		},
		{
			name:  "an environment that can't be read keeps its secret",
			files: files{"root/mail/ENV": "SECRET\n"}, ask: web, err: "root/mail/ENV can't be parsed; set a variable",
		},

		{name: "an app that nobody stopped", ask: stopped, want: false},
		{name: "an app that runs", files: files{"lib/config/ps/mail/restore": "true"}, ask: stopped, want: false},
		{name: "a stopped app", files: files{"lib/config/ps/mail/restore": "false"}, ask: stopped, want: true},
		{name: "an app stopped before 0.38", files: files{"root/mail/ENV": `DOKKU_APP_RESTORE="0"`}, ask: stopped, want: true},
		{name: "an app started before 0.38", files: files{"root/mail/ENV": "DOKKU_APP_RESTORE=1"}, ask: stopped, want: false},

		{name: "a minute to retire", ask: retire, want: time.Minute},
		{name: "the host's time to retire", files: files{"lib/config/checks/--global/wait-to-retire": "30"}, ask: retire, want: 30 * time.Second},
		{
			name:  "the app's time to retire",
			files: files{"lib/config/checks/--global/wait-to-retire": "30", "lib/config/checks/mail/wait-to-retire": "5"},
			ask:   retire, want: 5 * time.Second,
		},
		{name: "a time that is none", files: files{"lib/config/checks/mail/wait-to-retire": "soon"}, ask: retire, err: `wait-to-retire of mail is "soon"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := files{"root/mail/": ""}
			maps.Copy(all, tt.files)
			got, err := tt.ask(host(t, all))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "SECRET") {
					t.Fatalf("error %v, want one with %q and without a secret", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestFactsOfNoApp(t *testing.T) {
	e := host(t, map[string]string{"lib/config/scheduler/x/selected": "k3s", "lib/secret": "x"})
	for _, app := range []string{"../scheduler/x", "..", "", "x/../x"} {
		if got, err := e.Scheduler(app); err == nil {
			t.Errorf("the scheduler of %q is %q; want an error", app, got)
		}
		if got, err := e.Current(app); err == nil {
			t.Errorf("the containers of %q are %v; want an error", app, got)
		}
	}
}

func TestFromImage(t *testing.T) {
	const generated = "FROM acme/mail:v2\nLABEL com.dokku.docker-image-labeler/alternate-tags=[\\\"acme/mail:v2\\\"]\n"
	property := map[string]string{"lib/config/git/mail/source-image": "acme/mail:v2"}
	for _, tt := range []struct {
		name   string
		files  map[string]string
		source map[string]string
		make   func(dir string) error
		want   string
		err    bool
	}{
		{name: "from source", source: map[string]string{"Dockerfile": "FROM acme/mail:v2\n"}},
		{name: "from an image", files: property, source: map[string]string{"Dockerfile": generated}, want: "acme/mail:v2"},
		{
			name: "from an image into a folder that has a Dockerfile", files: property,
			source: map[string]string{"Dockerfile": "# mine\n" + generated}, want: "acme/mail:v2",
		},
		{
			name: "the first push after one from an image", files: property,
			source: map[string]string{"Dockerfile": "FROM debian\n"},
		},
		{name: "the first push, without a Dockerfile", files: property, source: map[string]string{"PORTS": ""}},
		{name: "after the first push", files: map[string]string{"lib/config/git/mail/source-image": ""}, source: map[string]string{"Dockerfile": generated}},
		{
			name: "a Dockerfile that is a link out of the tree", files: property,
			make: func(dir string) error {
				if err := os.WriteFile(dir+".elsewhere", []byte(generated), 0o600); err != nil {
					return err
				}
				return os.Symlink(dir+".elsewhere", filepath.Join(dir, "Dockerfile"))
			},
		},
		{
			name: "a Dockerfile that is a pipe", files: property,
			make: func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "Dockerfile"), 0o600) },
		},
		{
			name: "a Dockerfile that is a folder", files: property,
			make: func(dir string) error { return os.Mkdir(filepath.Join(dir, "Dockerfile"), 0o700) },
		},
		{name: "no tree", files: property, make: os.Remove, err: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := host(t, tt.files)
			dir := filepath.Join(t.TempDir(), "source")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for name, text := range tt.source {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if tt.make != nil {
				if err := tt.make(dir); err != nil {
					t.Fatal(err)
				}
			}
			got, err := e.FromImage("mail", dir)
			if got != tt.want || (err != nil) != tt.err {
				t.Errorf("image %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func ExampleEnv_ChecksDisabled() {
	e := Env{Root: "/nowhere", LibRoot: "/nowhere"}
	fmt.Println(e.ChecksDisabled("mail", "web"))
	// Output: false <nil>
}
