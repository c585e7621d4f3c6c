package hooks_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dokku-expose/hooks/setup"
	"dokku-expose/internal/load"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/testcert"
	"dokku-expose/internal/wait"
)

// The sequences that the rig replays, once on a Dokku that calls them itself: what the rig takes for granted of Dokku is
// checked here.
func TestRealDokku(t *testing.T) {
	d := newRealHost(t)
	d.install()

	app := "expose-test-" + strings.ToLower(rand.Text()[:8])
	public := d.freePort()
	d.create(app)
	program, err := rig.BuildApp(t.Context(), d.dir)
	d.must(err)
	repository := &realRepository{d: d, app: app, program: program, dir: filepath.Join(d.dir, "app")}
	repository.init()

	d.step("a push opens the port", func() {
		d.wants(repository.push("v1", lead(public, private)), "Public ports of "+app, fmt.Sprintf("%d -> web.1", public))
		d.answers(public, "v1")
	})
	d.step("a PORTS file that is wrong stops the push", func() {
		out, err := repository.tryPush(nil, "bad", lead(public, private), "70000:5025")
		if err == nil {
			d.t.Errorf("the push went through:\n%s", out)
		}
		d.wants(out, "PORTS:2:1:", "70000")
		if strings.Contains(out, "Deploying web") {
			d.t.Errorf("the app was deployed all the same:\n%s", out)
		}
		d.answers(public, "v1")
	})
	d.step("a push and scaling under load", func() {
		l := d.underLoad(app, public)
		l.Phase("push")
		_, err := repository.tryPush(func() { l.Mark("v2") }, "v2", lead(public, private))
		d.must(err)
		d.seen(l, 10)
		// Scaling may take longer than the old container has.
		held := l.Report().Holding["v1"]
		for _, scale := range []string{"web=2", "web=1"} {
			l.Phase("scale " + scale)
			d.dokku("ps:scale", app, scale)
			d.seen(l, 10)
		}
		r := d.judge(l)
		if len(r.Versions) != 2 || r.Versions[1].Name != "v2" {
			d.t.Errorf("the versions that answered are %v, want v1 and v2", r.Versions)
		}
		if held == 0 {
			d.t.Error("no connection to v1 has outlived the switch, though its container had time")
		}
	})
	d.step("reports and help", func() {
		d.wants(d.dokku("expose:list", app), app, fmt.Sprint(public), "serving")
		d.wants(d.dokku("report", app), "expose information")
		d.wants(d.dokku("help"), "    expose ")
		d.wants(d.dokku("expose:check"), app)
	})
	d.step("TLS by the certificate that Dokku has", func() {
		secure := d.freePort()
		d.wants(repository.push("v2", lead(public, private), lead(secure, private)+" tls=terminate"), "it has no certificate for TLS")
		d.closed(secure)
		for range 2 {
			cert := testcert.New(d.t, time.Hour, "mail.example.com")
			for name, from := range map[string]string{"server.crt": cert.Chain, "server.key": cert.Key} {
				text, err := os.ReadFile(from)
				d.must(err)
				d.write(name, string(text))
			}
			d.wants(d.dokku("certs:add", app, filepath.Join(d.dir, "server.crt"), filepath.Join(d.dir, "server.key")), fmt.Sprint(secure))
			d.answersTLS(secure, cert, "v2")
		}
		d.dokku("certs:remove", app)
		d.closed(secure)
		d.answers(public, "v2")
	})
	d.step("moved to the built-in engine, and a push there under load", func() {
		d.wants(d.dokku("expose:set", "--global", "engine", "builtin"), "1 public ports are served by the engine builtin")
		d.answers(public, "v2")
		l := d.underLoad(app, public)
		_, err := repository.tryPush(func() { l.Mark("v3") }, "v3", lead(public, private))
		d.must(err)
		d.seen(l, 10)
		if r := d.judge(l); len(r.Versions) != 2 || r.Versions[1].Name != "v3" {
			d.t.Errorf("the versions that answered are %v, want v2 and v3", r.Versions)
		}
		d.wants(d.dokku("expose:check"), app)
		d.wants(d.dokku("expose:logs"), "msg=engine", "msg=switch")
	})
	d.step("stopped and started", func() {
		d.dokku("ps:stop", app)
		d.closed(public)
		d.dokku("ps:start", app)
		d.answers(public, "v3")
	})
	renamed := app + "-renamed"
	d.step("renamed", func() {
		d.dokku("apps:rename", app, renamed)
		d.answers(public, "v3")
		if list := d.dokku("expose:list"); !strings.Contains(list, renamed) || regexp.MustCompile(app+`\s`).MatchString(list) {
			d.t.Errorf("the list does not have the new name alone:\n%s", list)
		}
	})
	d.step("destroyed", func() {
		d.dokku("--force", "apps:destroy", renamed)
		d.closed(public)
		if list := d.dokku("expose:list"); strings.Contains(list, app) {
			d.t.Errorf("the app is in the list still:\n%s", list)
		}
	})
	d.step("uninstalled", d.uninstall)
}

// install installs the plugin from this checkout as it is now, and starts its services where nobody else does.
func (d *realHost) install() {
	d.t.Helper()
	tree := filepath.Join(d.dir, "plugin")
	d.must(os.Mkdir(tree, 0o755))
	// What git would commit. The checkout may be somebody else's than root's.
	const copyTree = `set -eo pipefail
git -C .. -c safe.directory='*' ls-files -z -co --exclude-standard | tar -C .. --null --ignore-failed-read -T - -cf - | tar -C "$0" -xf -
cd "$0"; git init -q -b master; git add -A
git -c user.name=test -c user.email=test@localhost commit -q -m test`
	if out, err := d.command("bash", "-c", copyTree, tree); err != nil {
		d.t.Skipf("the run on a real Dokku needs a git checkout of the plugin: %v\n%s", err, out)
	}
	// What is built already need not be built again.
	for _, name := range []string{"GOCACHE", "GOMODCACHE"} {
		value, err := d.command("go", "env", name)
		d.must(err)
		d.t.Setenv(name, strings.TrimSpace(value))
	}
	d.t.Cleanup(func() {
		d.endServices()
		if _, err := os.Lstat(realPlugin); !errors.Is(err, fs.ErrNotExist) {
			if out, err := d.command("dokku", "plugin:uninstall", "expose"); err != nil {
				d.t.Errorf("the plugin could not be uninstalled: %v\n%s", err, out)
			}
		}
	})
	out := d.dokkuAsRoot("plugin:install", "file://"+tree, "--name", "expose")
	d.wants(out, "Installed "+setup.Binary)
	for i, m := range regexp.MustCompile(`keep this running: (.+)`).FindAllStringSubmatch(out, -1) {
		d.services = append(d.services, d.background(fmt.Sprint("service", i), "bash", "-c", m[1]))
	}
	await(d.t, "HAProxy runs", func() bool {
		conn, err := net.Dial("unix", filepath.Join(realRun, "master.sock"))
		return err == nil && conn.Close() == nil
	})
}

func (d *realHost) endServices() {
	for _, service := range d.services {
		d.terminate(service)
	}
	d.services = nil
}

// uninstall wants nothing of the plugin to stay.
func (d *realHost) uninstall() {
	d.t.Helper()
	if len(d.services) > 0 {
		out, err := d.command("dokku", "plugin:uninstall", "expose")
		if err == nil {
			d.t.Errorf("the plugin was uninstalled while HAProxy runs:\n%s", out)
		}
		d.wants(out, "runs still", "plugin:uninstall expose` again")
		d.endServices()
	}
	d.dokkuAsRoot("plugin:uninstall", "expose")
	for _, path := range []string{
		realPlugin, "/var/lib/dokku/plugins/enabled/expose", "/var/lib/dokku/config/expose", "/var/lib/dokku/data/expose",
		filepath.Dir(setup.Binary), setup.RunDir, setup.DaemonRunDir, "/usr/local/lib/systemd/system/dokku-expose.service",
		"/usr/local/lib/systemd/system/dokku-expose-haproxy.service",
	} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			d.t.Errorf("%s is there still (%v)", path, err)
		}
	}
	if _, err := user.Lookup(setup.Account); err == nil {
		d.t.Errorf("the user %s is there still", setup.Account)
	}
	if _, err := user.LookupGroup(setup.Account); err == nil {
		d.t.Errorf("the group %s is there still", setup.Account)
	}
}

// step is a part of the test that the parts after it need.
func (d *realHost) step(name string, part func()) {
	d.t.Helper()
	d.run(name, part)
	if d.t.Failed() {
		d.t.FailNow()
	}
}

// create makes an app, which is gone at the test's end under whatever name.
func (d *realHost) create(app string) {
	d.t.Helper()
	d.t.Cleanup(func() {
		apps, err := d.command("dokku", "--quiet", "apps:list")
		if err != nil {
			d.t.Errorf("dokku apps:list: %v\n%s", err, apps)
		}
		for name := range strings.FieldsSeq(stdoutOf(apps)) {
			if !strings.HasPrefix(name, app) {
				continue
			}
			if out, err := d.command("dokku", "--force", "apps:destroy", name); err != nil {
				d.t.Errorf("the app %s could not be destroyed: %v\n%s", name, err, out)
			}
		}
	})
	d.dokku("apps:create", app)
}

// underLoad lets clients connect, who know which of the app's containers Docker stops.
func (d *realHost) underLoad(app string, public uint16) *load.Load {
	d.t.Helper()
	l, err := load.Start(d.t.Context(), load.Config{
		Addr: loopback(public), Openers: 2, Pause: 20 * time.Millisecond, Holders: 5, Timeout: wait.Patience,
	})
	d.must(err)
	d.t.Cleanup(func() { l.Stop() })
	events := exec.Command("docker", "events", "--filter", "event=kill", "--filter", "label=com.dokku.app-name="+app, "--format", "{{.Actor.ID}}")
	events.Stdout = &lines{each: func(id string) { l.Retired(id, realLinger/2) }}
	d.must(events.Start())
	d.t.Cleanup(func() {
		_ = events.Process.Kill()
		_ = events.Wait()
	})
	return l
}

// lines gives what is written to it to each, line by line.
type lines struct {
	rest []byte
	each func(line string)
}

func (w *lines) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		w.each(string(line))
		w.rest = rest
	}
}

// realLinger is how long the app goes on with its connections after SIGTERM: longer than the test looks, so that none of
// them may end.
const realLinger = 2 * time.Minute

// realRepository is the source of an app.
type realRepository struct {
	d                 *realHost
	app, program, dir string
}

func (r *realRepository) git(args ...string) {
	r.d.t.Helper()
	args = append([]string{"-C", r.dir, "-c", "user.name=test", "-c", "user.email=test@localhost"}, args...)
	if out, err := r.d.command("git", args...); err != nil {
		r.d.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (r *realRepository) init() {
	r.d.t.Helper()
	r.d.must(os.Mkdir(r.dir, 0o755))
	r.git("init", "-q", "-b", "master")
	r.d.must(os.Rename(r.program, filepath.Join(r.dir, "testapp")))
	// Dokku's own check of port 5000 is content at once.
	r.d.write("app/app.json", `{"healthchecks": {"web": [{"type": "startup", "name": "up", "uptime": 1}]}}`)
}

// push pushes a version with these lines as PORTS, and returns what git says.
func (r *realRepository) push(version string, ports ...string) string {
	r.d.t.Helper()
	out, err := r.tryPush(nil, version, ports...)
	if err != nil {
		r.d.t.Fatalf("git push: %v\n%s", err, out)
	}
	return out
}

// tryPush calls switched, which may be nil, as soon as git says that the public ports are switched.
func (r *realRepository) tryPush(switched func(), version string, ports ...string) (string, error) {
	r.d.t.Helper()
	r.d.write("app/Dockerfile", fmt.Sprintf("FROM scratch\nCOPY testapp /testapp\nENV VERSION=%s PORTS=5000,%d LINGER=%s\nCMD [\"/testapp\"]\n",
		version, private, realLinger))
	r.d.write("app/PORTS", strings.Join(ports, "\n")+"\n")
	r.git("add", "-A")
	r.git("commit", "-q", "-m", version)
	var out strings.Builder
	said := &lines{each: func(line string) {
		fmt.Fprintln(&out, line)
		if switched != nil && strings.Contains(line, "Public ports of "+r.app) {
			switched()
		}
	}}
	err := r.d.runTo(said, "git", "-C", r.dir, "-c", "core.sshCommand="+strings.Join(r.d.ssh, " "), "push", "dokku@127.0.0.1:"+r.app, "master")
	return out.String(), err
}
