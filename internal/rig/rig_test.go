package rig_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"

	"dokku-expose/internal/rig"
	"dokku-expose/internal/rig/rigtest"
	"dokku-expose/internal/wait"
)

func TestMain(m *testing.M) { os.Exit(rigtest.Run(m)) }

// stub stands for the plugin: it writes down how it was called, and fails where the file `fail` beside it says so.
const stub = `#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
name=${0##*/}
if [ "$1" = run-haproxy ]; then
	! grep -qx haproxy "$here/fail" || { echo no configuration; exit 1; }
	cd "$DOKKU_EXPOSE_RUN_DIR"
	printf '%s\n' global ' stats socket unix@stats.sock' defaults ' timeout connect 1s' > haproxy.cfg
	PATH=$PATH:/usr/sbin exec haproxy -W -S unix@master.sock -f haproxy.cfg
fi
{ printf '%s' "$name"; for a in "$@"; do printf ' %s' "${a:-''}"; done; echo; } >> "$here/calls"
case $name in
env) env; kill -0 "$DOKKU_PID" && echo the process DOKKU_PID runs; exit 3 ;;
docker-args-*) cat ;; # hangs should the standard input not be empty
esac
[ "$name" != docker-args-process-deploy ] || echo " --label='from.the.plugin=yes indeed' "
! grep -qx "$name" "$here/fail"
`

type stubbed struct {
	*rig.Host
	t   *testing.T
	dir string
}

// newStubbed makes a host whose plugin is the stub.
func newStubbed(t *testing.T, change ...func(*rig.Options)) *stubbed {
	t.Helper()
	s := &stubbed{t: t, dir: t.TempDir()}
	binary := filepath.Join(s.dir, "stub")
	if err := os.WriteFile(binary, []byte(stub), 0o755); err != nil {
		t.Fatal(err)
	}
	s.fail()
	change = append(change, func(o *rig.Options) { o.Binary, o.HAProxy = binary, false })
	s.Host = rigtest.New(t, change...)
	return s
}

// fail lets those triggers fail from now on, and no others.
func (s *stubbed) fail(triggers ...string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "fail"), []byte(strings.Join(append(triggers, ""), "\n")), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// What differs each time, and how the tests write it.
var varying = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`/\S*/build-\d+`), "DIR"},
	{regexp.MustCompile(`\brig-\d+\b`), "TAG"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "CONTAINER"},
	{regexp.MustCompile(`\b[0-9a-f]{40}\b`), "REV"},
	{regexp.MustCompile(`\b172\.\d+\.\d+\.\d+\b`), "IP"},
}

// calls are the calls since the last time.
func (s *stubbed) calls() []string {
	s.t.Helper()
	file := filepath.Join(s.dir, "calls")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.Remove(file)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	for _, v := range varying {
		text = v.pattern.ReplaceAll(text, []byte(v.name))
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func (s *stubbed) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// current is the container of a dyno of mail, "" when there is none.
func (s *stubbed) current(dyno string) string {
	s.t.Helper()
	current, err := s.Containers("mail")
	s.must(err)
	return current[dyno]
}

func (s *stubbed) inspect(id string) container.InspectResponse {
	s.t.Helper()
	info, err := s.Docker.ContainerInspect(s.t.Context(), id)
	s.must(err)
	return info
}

// address is where a container can be reached.
func (s *stubbed) address(id string) string {
	s.t.Helper()
	return s.inspect(id).NetworkSettings.Networks["bridge"].IPAddress
}

func (s *stubbed) awaitExit(id string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), wait.Patience)
	defer cancel()
	done, errs := s.Docker.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	select {
	case <-done:
	case err := <-errs:
		s.t.Fatal(err)
	}
}

var mail = rig.Source{Version: "v1", Listen: []uint16{5025}, Files: map[string]string{"PORTS": "25:5025\n"}}

// The parts of the contract's sequences.
var (
	process = func(checks string, containers ...string) []string {
		calls := []string{"docker-args-deploy mail TAG web", "docker-args-process-deploy mail dockerfile TAG web"}
		for i, before := range containers {
			calls = append(calls,
				fmt.Sprintf("docker-args-deploy mail TAG web %d", i+1),
				fmt.Sprintf("docker-args-process-deploy mail dockerfile TAG web %d", i+1),
				"post-container-create app CONTAINER mail deploy web")
			if checks != "" {
				calls = append(calls, fmt.Sprintf("check-deploy mail CONTAINER web 5000 IP %d", i+1))
			}
			if before != "" {
				calls = append(calls, "scheduler-register-retired mail CONTAINER 60")
			}
		}
		return append(calls, "scheduler-post-deploy-process mail web", "proxy-build-config mail", "ports-configure mail", "nginx-pre-reload mail '' ''")
	}
	beginOf = func(process string) []string { return []string{"scheduler-deploy docker-local mail TAG " + process} }
	begin   = beginOf("''")
	end     = []string{"core-post-deploy mail '' '' TAG", "post-deploy mail '' '' TAG"}
	release = []string{"pre-release-builder dockerfile mail dokku/mail:TAG", "pre-deploy mail TAG", "post-release-builder dockerfile mail dokku/mail:TAG"}
	build   = func(revision string) []string {
		return []string{
			"core-post-extract mail DIR " + revision, "post-extract mail DIR " + revision, "pre-receive-app mail dockerfile DIR " + revision,
			"pre-build dockerfile mail DIR", "docker-args-build mail dockerfile", "docker-args-process-build mail dockerfile", "post-build dockerfile mail DIR",
		}
	}
	push    = slices.Concat([]string{"post-config-update mail set GIT_REV"}, build("REV"))
	destroy = []string{"pre-delete mail TAG", "scheduler-stop docker-local mail true", "scheduler-post-delete docker-local mail TAG", "post-delete mail TAG", "scheduler-retire docker-local mail"}
)

// as is the same calls for another app.
func as(app string, calls []string) []string {
	out := slices.Clone(calls)
	for i := range out {
		out[i] = regexp.MustCompile(`\bmail\b`).ReplaceAllString(out[i], app)
	}
	return out
}

// The sequences of the contract, as a plugin called expose sees them: what core plugins of a later name call from within a
// trigger comes after the plugin's own turn.
func TestSequences(t *testing.T) {
	s := newStubbed(t)
	renamed := func(n string) []string { return as("post", slices.Concat(begin, process("checked", n))) }
	for _, test := range []struct {
		name    string
		command func() error
		want    [][]string
	}{
		{"git push of a new app", func() error { return s.Push("mail", mail) },
			[][]string{{"post-create mail"}, push, release, begin, process("checked", ""), end}},
		{"git push", func() error { return s.Push("mail", mail) },
			[][]string{push, release, begin, process("checked", "old"), end}},
		{"ps:rebuild", func() error { return s.Rebuild("mail") },
			[][]string{{"receive-app mail"}, build("''"), release, begin, process("checked", "old"), end}},
		{"ps:restart", func() error { return s.Restart("mail") },
			[][]string{begin, process("checked", "old"), end}},
		{"ps:scale up", func() error { return s.Scale("mail", "web", 2) },
			[][]string{beginOf("web"), process("checked", "old", ""), end}},
		{"ps:scale down", func() error { return s.Scale("mail", "web", 1) },
			[][]string{beginOf("web"), process("checked", "old"), {"scheduler-register-retired mail CONTAINER 60"}, end}},
		{"config:set", func() error { return s.ConfigSet("mail", "KEY") },
			[][]string{{"post-config-update mail set KEY"}, release, begin, process("checked", "old"), end}},
		{"proxy:disable", func() error { return s.ProxyDisable("mail") },
			[][]string{{"proxy-disable mail", "app-restart mail"}, begin, process("checked", "old"), end}},
		{"proxy:enable", func() error { return s.ProxyEnable("mail") },
			[][]string{{"proxy-enable mail", "app-restart mail"}, begin, process("checked", "old"), end}},
		{"ps:start of an app that runs", func() error { return s.Start("mail") },
			[][]string{{"pre-start mail", "proxy-build-config mail"}}},
		{"ps:stop", func() error { return s.Stop("mail") },
			[][]string{{"scheduler-stop docker-local mail", "post-stop mail"}}},
		{"ps:start", func() error { return s.Start("mail") },
			[][]string{{"pre-start mail"}, release, begin, process("checked", "old"), end, {"proxy-build-config mail"}}},
		{"ps:scale to 0", func() error { return s.Scale("mail", "web", 0) },
			[][]string{beginOf("web"), process("checked"), {"scheduler-register-retired mail CONTAINER 60"}, end}},
		{"ps:scale from 0", func() error { return s.Scale("mail", "web", 1) },
			[][]string{beginOf("web"), process("checked", ""), end}},
		{"ps:restart of an app that was never deployed", func() error {
			s.must(s.CreateApp("new"))
			return s.Restart("new")
		}, [][]string{{"post-create new"}}},
		{"git:from-image", func() error {
			ref, err := s.Image("example/mail", mail)
			if err != nil {
				return err
			}
			return s.FromImage("mail", ref)
		}, [][]string{push, release, begin, process("checked", "old"), end}},
		{"checks:disable and ps:restart", func() error {
			s.must(s.ChecksDisable("mail"))
			return s.Restart("mail")
		}, [][]string{begin, {"scheduler-register-retired mail CONTAINER 60"}, process("", "old"), end}},
		{"checks:skip and ps:restart", func() error {
			s.must(s.SetProperty("checks", "mail", "disabled", ""))
			s.must(s.SetProperty("checks", "mail", "skipped", "web"))
			return s.Restart("mail")
		}, [][]string{begin, process("checked", "old"), end}},
		{"apps:clone --skip-deploy", func() error { return s.Clone("mail", "twin", rig.SkipDeploy()) },
			[][]string{{"post-create twin", "post-app-clone-setup mail twin", "post-app-clone mail twin"}}},
		{"apps:clone", func() error { return s.Clone("mail", "post") },
			[][]string{{"post-create post", "post-app-clone-setup mail post", "post-app-clone mail post", "receive-app post"},
				as("post", build("''")), as("post", release), renamed(""), as("post", end)}},
		{"apps:destroy", func() error { return s.Destroy("post") }, [][]string{as("post", destroy)}},
		{"apps:rename", func() error { return s.Rename("mail", "post") },
			[][]string{{"post-create post", "post-app-rename-setup mail post", "proxy-clear-config post"}, destroy,
				{"post-app-rename mail post", "receive-app post"},
				as("post", build("''")), as("post", release), renamed("old"), as("post", end)}},
	} {
		if !t.Run(test.name, func(t *testing.T) {
			s.t = t
			s.must(test.command())
			if got, want := s.calls(), slices.Concat(test.want...); !slices.Equal(got, want) {
				t.Errorf("calls\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			}
		}) {
			return
		}
	}
}
