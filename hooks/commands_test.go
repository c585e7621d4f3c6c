package hooks_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/renameio/v2"

	"dokku-expose/hooks"
	"dokku-expose/internal/rig"
)

// table is a command's output with single blanks, a row a line.
func table(text string) []string {
	var rows []string
	for line := range strings.Lines(text) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	return rows
}

func (h *host) wantRows(verb string, args []string, want ...string) {
	h.t.Helper()
	if got := table(h.expose(0, verb, args...).Stdout); !reflect.DeepEqual(got, want) {
		h.t.Errorf("expose:%s says\n%s\nwant\n%s", verb, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// decode reads the JSON that a command printed.
func decode[T any](h *host, text string) T {
	h.t.Helper()
	var value T
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		h.t.Fatalf("%v in %s", err, text)
	}
	return value
}

func TestCommandsShowWhatIsServed(t *testing.T) {
	t.Parallel()
	h := start(t)
	a, b, c := h.port(), h.port(), h.port()
	h.push("mail", source("v1", "# mail", lead(a, private), fmt.Sprintf("127.0.0.1:%d:%d process=imap", b, private)))
	h.expose(0, "add", "mail", lead(c, private))
	h.must(h.CreateApp("web"))
	web1 := h.current("mail", "web.1")

	heading := "APP PUBLIC PRIVATE PROCESS FROM STATE CONTAINERS"
	rows := []string{
		heading,
		fmt.Sprintf("mail %d 5025 web PORTS line 2 serving web.1", a),
		fmt.Sprintf("mail 127.0.0.1:%d 5025 imap PORTS line 3 closed", b),
		fmt.Sprintf("mail %d 5025 web expose:add serving web.1", c),
	}
	h.run("list", func() {
		h.wantRows("list", nil, rows...)
		h.wantRows("list", []string{"mail"}, rows...)
		h.wantRows("list", []string{"web"}, heading)
		got := decode[[]map[string]any](h, h.expose(0, "list", "mail", "--format", "json").Stdout)
		want := map[string]any{"app": "mail", "public": fmt.Sprint(a), "hosts": []any{}, "private": "5025", "process": "web",
			"from": "PORTS line 2", "state": "serving", "containers": []any{"web.1"}}
		if len(got) != 3 || !reflect.DeepEqual(got[0], want) {
			h.t.Errorf("list in JSON: %v, want %v first", got, want)
		}
	})
	h.run("report", func() {
		ports := fmt.Sprintf("%d 127.0.0.1:%d %d", a, b, c)
		h.wants(h.expose(0, "report", "mail").Stdout, "=====> mail expose information", "Expose public ports:", ports,
			"Expose containers:", "Expose computed hold:", "Expose state:", "closed serving")
		if got := h.expose(0, "report", "mail", "--expose-public-ports").Stdout; got != ports+"\n" {
			h.t.Errorf("--expose-public-ports prints %q", got)
		}
		all := decode[map[string]string](h, h.expose(0, "report", "mail", "--format", "json").Stdout)
		if all["public-ports"] != ports || all["computed-hold"] != "10s" || all["operator-mappings"] != lead(c, private) {
			h.t.Errorf("report in JSON: %v", all)
		}
		h.wants(h.expose(0, "report").Stdout, "=====> mail expose information", "=====> web expose information")
		result, err := h.Trigger("report", "mail") // `dokku report mail`
		h.must(err)
		h.wants(result.Stdout, "=====> mail expose information", ports)
		h.wants(h.expose(1, "report", "mail", "--nonsense").Stderr, "Invalid flag passed", "--expose-public-ports")
	})
	h.run("check", func() {
		// The port of a process type that has no container.
		finding := fmt.Sprintf("mail: public port 127.0.0.1:%d: it is closed, since the process type imap has no container (PORTS line 3)", b)
		h.wants(h.expose(1, "check").Stderr, finding, "dokku ps:scale mail imap=1")
		got := decode[[]map[string]string](h, h.expose(1, "check", "mail", "--format", "json").Stdout)
		got = slices.DeleteFunc(got, func(f map[string]string) bool { return f["level"] == "remark" })
		if len(got) != 1 || got[0]["app"] != "mail" || got[0]["public"] != fmt.Sprintf("127.0.0.1:%d", b) || got[0]["message"] == "" {
			h.t.Errorf("check in JSON: %v", got)
		}
		h.wants(h.expose(0, "check", "web").Stdout, "Nothing is wrong")
	})
	h.run("sync", func() {
		h.wants(h.expose(0, "sync").Stdout, "-----> Public ports of mail", fmt.Sprintf("-> web.1 (%.12s)", web1))
	})
	h.run("show-config", func() {
		config := h.expose(0, "show-config").Stdout
		h.wants(config, "listen mail:"+fmt.Sprint(a), "insecure-password ********")
		password, err := os.ReadFile(filepath.Join(h.Lib, "data", "expose", "stats-password"))
		h.must(err)
		if strings.Contains(config, strings.TrimSpace(string(password))) {
			h.t.Error("the password of the statistics page is in it")
		}
	})
	h.run("disable and enable", func() {
		h.expose(0, "disable", "mail")
		h.closed(a, c)
		h.wants(h.expose(0, "list", "mail").Stdout, "disabled")
		h.wants(h.refused("pre-build", "thief", source("v1", lead(a, private))), "belongs to the app mail")
		h.push("mail", source("v2", lead(a, private)))
		h.closed(a, c)
		h.expose(0, "enable", "mail")
		h.answers(a, "v2")
		h.answers(c, "v2")
	})
}

// As the reports of Dokku's core since 0.38.0: what is set for the host, and what goes where nothing is set, in each format.
func TestReportOfTheHost(t *testing.T) {
	t.Parallel()
	h := start(t, settings("hold", "17s", "rate", "20/10s"))
	h.must(h.CreateApp("mail"))
	h.expose(0, "set", "mail", "hold", "3s")

	h.wants(strings.Join(table(h.expose(0, "report", "--global").Stdout), "\n"), "=====> --global expose information",
		"Expose global hold: 17s", "Expose computed hold: 17s", "Expose computed balance: leastconn")
	all := decode[map[string]string](h, h.expose(0, "report", "--global", "--format", "json").Stdout)
	for name, want := range map[string]string{
		"global-hold": "17s", "computed-hold": "17s", "global-balance": "", "computed-balance": "leastconn",
		"global-engine": "", "computed-engine": "auto", "engine": "haproxy", "global-rate": "20/10s",
	} {
		if got, there := all[name]; got != want || !there {
			t.Errorf("%s is %q (%t), want %q", name, got, there, want)
		}
	}
	for _, name := range []string{"hold", "ports-file", "global-ports-file", "computed-ports-file", "public-ports"} {
		if got, there := all[name]; there {
			t.Errorf("%s is an app's: %q", name, got)
		}
	}
	for flag, want := range map[string]string{"--expose-global-hold": "17s\n", "--expose-global-balance": "\n", "--expose-computed-balance": "leastconn\n"} {
		for _, args := range [][]string{{"--global", flag}, {flag, "--global"}, {"mail", "--global", flag}} {
			if got := h.expose(0, "report", args...).Stdout; got != want {
				t.Errorf("report %v prints %q, want %q", args, got, want)
			}
		}
	}
	h.wants(h.expose(1, "report", "--global", "--expose-hold").Stderr, "Invalid flag passed", "--expose-global-hold")
	h.wants(h.expose(1, "report", "--global", "--format", "json", "--expose-global-hold").Stderr, "--format flag cannot be specified")
	h.wants(h.expose(1, "report", "--global", "--format", "xml").Stderr, "xml")
}

func TestHelp(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, verb := range []string{"", "help"} {
		page := h.expose(0, verb).Stdout
		for _, name := range hooks.Subcommands() {
			if name != "default" {
				h.wants(page, "    expose:"+name)
			}
		}
	}
	h.must(h.CreateApp("mail"))
	for _, name := range hooks.Subcommands() {
		verb, call := name, "dokku expose:"+name
		if name == "default" {
			verb, call = "", "dokku expose"
		}
		h.run(call, func() {
			result := h.expose(0, name, "--help")
			if usage, _, _ := strings.Cut(result.Stdout, "\n"); usage != "Usage: "+call && !strings.HasPrefix(usage, "Usage: "+call+" ") {
				h.t.Errorf("it begins with %q", usage)
			}
			if result.Stderr != "" {
				h.t.Errorf("it says %q on the standard error", result.Stderr)
			}
			// What Dokku's start script makes of the command line that comes over ssh.
			xargs := exec.Command("xargs", "-n", "1")
			xargs.Stdin = strings.NewReader("--help")
			words, err := xargs.Output()
			h.must(err)
			for how, other := range map[string]rig.Result{
				"expose:help " + name:        h.expose(0, "help", name),
				"expose:help expose:" + name: h.expose(0, "help", "expose:"+name),
				call + " --help over ssh":    h.expose(0, name, strings.Split(string(words), "\n")...),
			} {
				if other != (rig.Result{Stdout: result.Stdout, Took: other.Took}) {
					h.t.Errorf("%s says\n%s%s, not\n%s", how, other.Stdout, other.Stderr, result.Stdout)
				}
			}
			examples := 0
			for line := range strings.Lines(result.Stdout) {
				if text := strings.TrimSpace(line); strings.HasPrefix(text, "dokku expose") {
					if !strings.HasPrefix(line, "  dokku") {
						h.t.Errorf("the example %q is not indented", text)
					}
					if text == call || strings.HasPrefix(text, call+" ") || verb == "" {
						examples++
					}
				}
			}
			if examples == 0 {
				h.t.Errorf("there is no example in:\n%s", result.Stdout)
			}
			for _, flag := range flags.FindAllString(result.Stdout, -1) {
				switch flag {
				case "--help", "--watch", "--tail": // they go on until somebody interrupts them
				case "--image", "--node", "--all-nodes", "--print": // they need a cluster, as in TestEntryHostsOfForeignCluster
				case "--global":
					args := []string{flag, "hold"}
					if name == "report" {
						args = args[:1]
					}
					h.expose(0, name, args...)
				case "--num":
					h.expose(0, name, "mail", flag, "1")
				case "--format":
					h.expose(0, name, "mail", flag, "json")
				default:
					h.expose(0, name, "mail", flag)
				}
			}
		})
	}
}

// flags are those that a help text names.
var flags = regexp.MustCompile(`--[a-z][a-z-]*`)

func TestCommandsThatDoNotFitSayHowTheyAreMeant(t *testing.T) {
	t.Parallel()
	h := start(t)
	public, other := h.port(), h.port()
	h.push("mail", source("v1", lead(public, private)))
	h.push("chat", source("v1", lead(other, private)))
	before := h.files()
	for _, test := range []struct {
		call  string
		code  int
		wants []string
	}{
		{"list nobody", 20, []string{"App nobody does not exist"}},
		{"report nobody", 20, []string{"App nobody does not exist"}},
		{"add nobody 25:5025", 20, []string{"App nobody does not exist"}},
		{"remove nobody 25", 20, []string{"App nobody does not exist"}},
		{"set nobody hold 1s", 20, []string{"App nobody does not exist"}},
		{"disable nobody", 20, []string{"App nobody does not exist"}},
		{"enable nobody", 20, []string{"App nobody does not exist"}},
		{"check nobody", 20, []string{"App nobody does not exist"}},

		{"list --nonsense", 1, []string{"unknown flag: --nonsense", "usage: dokku expose:list"}},
		{"add mail 25:5025 --nonsense", 1, []string{"unknown flag: --nonsense", "usage: dokku expose:add"}},
		{"check --nonsense", 1, []string{"unknown flag: --nonsense", "usage: dokku expose:check"}},
		{"sync --nonsense", 1, []string{"unknown flag: --nonsense", "usage: dokku expose:sync"}},
		{"list mail --format xml", 1, []string{`--format is "xml"`, "stdout or json"}},
		{"report mail --format xml", 1, []string{`"xml"`, "json"}},
		{"report mail --format", 1, []string{"--format needs a value"}},

		{"help nothing", 1, []string{"there is no command expose:nothing"}},
		{"help list set", 1, []string{`unexpected argument "set"`}},

		{"stats nobody", 20, []string{"App nobody does not exist"}},
		{"stats mail chat", 1, []string{`unexpected argument "chat"`}},
		{"stats --format xml", 1, []string{`--format is "xml"`, "stdout or json"}},

		{"list mail chat", 1, []string{`unexpected argument "chat"`}},
		{"sync mail", 1, []string{`unexpected argument "mail"`}},
		{"disable mail now", 1, []string{`unexpected argument "now"`}},
		{"disable", 1, []string{"no app was named"}},
		{"add mail", 1, []string{"no mapping was given", "25:5025"}},
		{"remove mail", 1, []string{"no public port was given"}},
		{"set mail", 1, []string{"expected a key", "usage: dokku expose:set"}},

		{"add mail 0:5025 25", 1, []string{`mapping "0:5025"`, `mapping "25"`}},
		{"add mail 22:5025", 1, []string{"port 22 is reserved", "allowed-ports 22"}},
		{fmt.Sprintf("add mail %d:5025", public), 1, []string{"asked for twice by mail", "PORTS line 1"}},
		{fmt.Sprintf("add mail %d:5025", other), 1, []string{"belongs to the app chat"}},
		{fmt.Sprintf("remove mail %d", public), 1, []string{"that expose:add added", "it has: none"}},
		{"set mail holt 1s", 1, []string{`no setting "holt"`, "did you mean hold?"}},
		{"set mail hold soon", 1, []string{"hold", "soon"}},
		{"set mail engine haproxy", 1, []string{"engine is a setting of the whole host", "expose:set --global engine"}},
		{"set --global ports-file X", 1, []string{"ports-file is a setting of a single app"}},
	} {
		h.run(test.call, func() {
			words := strings.Fields(test.call)
			h.wants(h.expose(test.code, words[0], words[1:]...).Stderr, test.wants...)
		})
	}
	if after := h.files(); !reflect.DeepEqual(before, after) {
		t.Errorf("the files of the plugin have changed from\n%v\nto\n%v", before, after)
	}
}

func TestOperatorsPortsTakeEffectAtOnce(t *testing.T) {
	t.Parallel()
	h := start(t)
	public, added, range1 := h.port(), h.port(), h.port()
	h.push("mail", source("v1", lead(public, private)))
	l := h.load(public, 2, 10)

	h.expose(0, "add", "mail", lead(added, private), lead(range1, private))
	h.answers(added, "v1")
	h.answers(range1, "v1")
	h.seen(l, 20)
	held, err := h.dial(added)
	h.must(err)

	h.expose(0, "remove", "mail", fmt.Sprint(added))
	h.closed(added)
	h.must(held.echo()) // what is established goes on
	h.answers(range1, "v1")
	h.seen(l, 20)

	// What is gone can be had by another app, and comes not back with a deploy.
	h.push("chat", source("chat", lead(added, private)))
	h.answers(added, "chat")
	h.push("mail", source("v2", lead(public, private)), switched(l, "v2"))
	h.answers(range1, "v2")
	h.judge(l)
}

// A setting of the host that takes something from an app is refused, with the app named, and put back.
func TestSettingsOfTheHostTakeNothingFromApps(t *testing.T) {
	forEachEngine(t, settingsOfTheHostTakeNothingFromApps)
}

func settingsOfTheHostTakeNothingFromApps(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	pushed, added, free := h.port(), h.port(), h.port()
	h.push("mail", source("v1", lead(pushed, private)+" allow=127.0.0.1,::1"))
	h.expose(0, "add", "mail", fmt.Sprintf("127.0.0.1:%d:%d", added, private))
	before := h.files()
	refused := func(wants string, args ...string) {
		h.t.Helper()
		h.wants(h.expose(1, "set", append([]string{"--global"}, args...)...).Stderr, "mail", wants)
		if after := h.files(); !reflect.DeepEqual(before, after) {
			h.t.Errorf("the files of the plugin have changed from\n%v\nto\n%v", before, after)
		}
	}
	h.run("the statistics page", func() {
		refused(fmt.Sprintf("public port %d belongs to the app mail (PORTS line 1)", pushed), "stats-listen", fmt.Sprintf("127.0.0.1:%d", pushed))
		refused(fmt.Sprintf("public port 127.0.0.1:%d belongs to the app mail (expose:add)", added), "stats-listen", fmt.Sprintf("0.0.0.0:%d", added))
		h.expose(0, "set", "--global", "stats-listen", fmt.Sprintf("127.0.0.1:%d", free))
		h.wants(h.expose(1, "add", "mail", lead(free, private)).Stderr, fmt.Sprintf("the statistics page listens on 127.0.0.1:%d", free))
		before = h.files()
	})
	h.run("clients that nobody lets in", func() {
		refused("public port "+fmt.Sprint(pushed)+": PORTS line 1: nobody can connect", "allow", "10.0.0.0/8")
		h.answers(pushed, "v1")
	})
	h.run("what was wrong before keeps no setting back", func() {
		file := filepath.Join(h.Lib, "config", rig.Plugin, "apps", "mail.toml")
		text, err := os.ReadFile(file)
		h.must(err)
		h.must(renameio.WriteFile(file, []byte("hold = soon\n"+string(text)), 0o644))
		h.expose(0, "set", "--global", "hold", "3s")
	})
}
