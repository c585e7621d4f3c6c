package hooks_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"dokku-expose/deploy"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/wait"
)

// shown is what expose:stats prints as JSON.
type shown struct {
	URL, User, Password, Tunnel string
	deploy.Observation
}

func (h *host) stats(args ...string) shown {
	h.t.Helper()
	return decode[shown](h, h.expose(0, "stats", append(args, "--format", "json")...).Stdout)
}

// page gets a path of the statistics page.
func (h *host) page(s shown, password, path string) (int, string) {
	h.t.Helper()
	request, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, strings.TrimSuffix(s.URL, "/")+path, nil)
	h.must(err)
	request.SetBasicAuth(s.User, password)
	response, err := http.DefaultClient.Do(request)
	h.must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	h.must(err)
	return response.StatusCode, string(body)
}

// A deploy moves the traffic, and whoever looks sees it.
func TestStatsShowADeploy(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		name := filepath.Base(t.Name()) // of the engine
		public := h.port()
		h.push("mail", source("v1", lead(public, private)))
		h.push("chat", source("v1", lead(h.port(), private)))
		hold := func() {
			c, err := h.dial(public)
			h.must(err)
			h.must(c.echo())
		}
		hold()
		hold()
		v1 := h.current("mail", "web.1")
		// The part that the tests' containers play after a deploy is over soon: their connections are looked at before.
		want := func(when string, servers ...deploy.ServerState) shown {
			h.t.Helper()
			var got shown
			await(h.t, when, func() bool {
				got = h.stats("mail")
				if len(got.Routes) != 1 || len(got.Routes[0].Servers) != len(servers) {
					return false
				}
				for i, s := range got.Routes[0].Servers {
					w := servers[i]
					if s.Dyno != w.Dyno || s.Container != w.Container || s.State() != w.State() || s.Connections != w.Connections {
						return false
					}
				}
				return true
			})
			return got
		}
		got := want("v1 has two connections", deploy.ServerState{Dyno: "web.1", Container: v1, Up: true, Connections: 2})
		if r := got.Routes[0]; got.Engine != name || r.App != "mail" || r.Process != "web" || r.Key.Port != public ||
			r.State() != "serving" || r.Total < 2 || r.Lost() != 0 {
			h.t.Errorf("%+v", got)
		}

		var during shown
		var text, report string
		h.must(h.Push("mail", source("v2", lead(public, private)), rig.After(func(c rig.Call, r rig.Result) {
			if c.Name != "post-deploy" {
				return
			}
			hold()
			v2 := h.current("mail", "web.1")
			during = want("v1 drains", deploy.ServerState{Dyno: "web.1", Container: v2, Up: true, Connections: 1},
				deploy.ServerState{Dyno: "web.1", Container: v1, Up: true, Old: true, Connections: 2})
			text = h.expose(0, "stats").Stdout
			report = h.expose(0, "report", "mail").Stdout
			for flag, value := range map[string]string{
				"--expose-engine": name, "--expose-connections": "3", "--expose-draining-connections": "2", "--expose-old-processes": "0",
			} {
				if got := h.expose(0, "report", "mail", flag).Stdout; got != value+"\n" {
					h.t.Errorf("%s is %q, want %s", flag, got, value)
				}
			}
		})))
		if during.URL == "" {
			h.t.Fatal("post-deploy was not called")
		}
		h.wants(strings.Join(table(report), "\n"), "Expose draining connections: 2\n", "Expose connections: 3\n", "Expose old processes: 0\n")
		v2 := h.current("mail", "web.1")
		h.wants(text, "Address:", "Password:", "ssh -L", "chat")
		rows := strings.Join(table(text), "\n")
		h.wants(rows, fmt.Sprintf("mail %d web - - serving 3 ", public), fmt.Sprintf("mail %d web web.1 %.12s ready 1 ", public, v2),
			fmt.Sprintf("mail %d web web.1 %.12s draining 2 ", public, v1))

		// The page and the metrics are there for who has the login.
		for _, path := range []string{"/", "/containers", "/metrics"} {
			if code, body := h.page(during, "wrong", path); code != http.StatusUnauthorized || strings.Contains(body, "mail") {
				h.t.Errorf("%s with a wrong password: %d\n%s", path, code, body)
			}
			if code, body := h.page(during, during.Password, path); code != http.StatusOK || !strings.Contains(body, "mail") {
				h.t.Errorf("%s with the password: %d\n%s", path, code, body)
			}
		}
		// The metrics have the same names, and the containers' page the same rows.
		_, metrics := h.page(during, during.Password, "/metrics")
		h.wants(metrics, fmt.Sprintf(`dokku_expose_open_connections{app="mail",port="%d",process="web"} `, public), "\ndokku_expose_up 1\n",
			fmt.Sprintf(`container="%.12s",dyno="web.1",port="%d",process="web"} `, v2, public), "\ndokku_expose_reconcile_errors_total 0\n")
		problems, err := promlint.New(strings.NewReader(metrics)).Lint()
		h.must(err)
		for _, p := range problems {
			h.t.Errorf("%s: %s", p.Metric, p.Text)
		}
		_, page := h.page(during, during.Password, "/containers")
		h.wants(page, fmt.Sprintf("web.1 <code>%.12s</code>", v2), fmt.Sprintf(">%d</th>", public))
	})
}

// With --watch it is told again and again, until somebody interrupts it: as a table or as JSON, and of what is so at that time.
func TestStatsWatch(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		name := filepath.Base(t.Name()) // of the engine
		public := h.port()
		h.push("mail", source("v1", lead(public, private)))
		h.push("chat", source("v1", lead(h.port(), private)))
		text, texts := h.watch("mail", "--watch")
		document, documents := h.watch("mail", "--watch", "--format", "json")
		shown := func(open int) {
			h.t.Helper()
			await(h.t, fmt.Sprintf("%d connections are shown, twice", open), func() bool {
				row := fmt.Sprintf("mail %d web - - serving %d ", public, open)
				return strings.Count(strings.Join(table(text.String()), "\n"), row) >= 2
			})
			await(h.t, fmt.Sprintf("%d connections are in the JSON, twice", open), func() bool {
				return strings.Count(document.String(), fmt.Sprintf(`"connections": %d`, open)) >= 2
			})
		}
		shown(0)
		c, err := h.dial(public)
		h.must(err)
		shown(1)
		h.must(c.echo())
		for _, command := range []*exec.Cmd{texts, documents} {
			h.must(command.Process.Signal(syscall.SIGINT))
			if err := command.Wait(); err != nil {
				h.t.Errorf("an interrupt ended it with %v", err)
			}
		}
		if said := text.String(); strings.Contains(said, "\x1b") || strings.Contains(said, "Password") || strings.Contains(said, "chat") {
			h.t.Errorf("it printed:\n%s", said)
		}
		// One after the other, each whole.
		for decoder := json.NewDecoder(strings.NewReader(document.String())); decoder.More(); {
			var facts deploy.Observation
			if err := decoder.Decode(&facts); err != nil {
				h.t.Fatalf("%v in:\n%s", err, document)
			}
			if facts.Engine != name || len(facts.Routes) != 1 || facts.Routes[0].App != "mail" || len(facts.Routes[0].Servers) != 1 {
				h.t.Errorf("%+v", facts)
			}
		}
	})
}

// watch begins expose:stats in a process of its own, and returns what it prints.
func (h *host) watch(args ...string) (*wait.Buffer, *exec.Cmd) {
	h.t.Helper()
	path := filepath.Join(h.Lib, "plugins", "enabled", rig.Plugin, "subcommands", "stats")
	command := exec.CommandContext(h.t.Context(), path, append([]string{"expose:stats"}, args...)...)
	command.Env = append(os.Environ(), "DOKKU_ROOT="+h.Root, "DOKKU_LIB_ROOT="+h.Lib, "DOKKU_EXPOSE_RUN_DIR="+h.Run)
	out := new(wait.Buffer)
	command.Stdout, command.Stderr = out, out
	h.must(command.Start())
	return out, command
}
