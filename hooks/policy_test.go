package hooks_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"dokku-expose/internal/rig"
)

// What the policy refuses is refused to a push before the build, and to expose:add, with the rule and one command for all of it.
// After that command the same goes, and so does all that went before.
func TestPolicyOfPushesAndOperators(t *testing.T) { forEachEngine(t, policyOfPushesAndOperators) }

func policyOfPushesAndOperators(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	own, a, b, c := h.port(), h.port(), h.port(), h.port()
	at := func(ip string, port uint16) string { return fmt.Sprintf("%s:%d:%d", ip, port, private) }
	h.push("mail", source("v1", at("127.0.0.1", own)))
	for _, test := range []struct {
		name string
		// set are settings of the host, own are those of the app.
		set, own [][2]string
		lines    []string
		rule     string
		command  string // the value
	}{
		{
			"reserved ports, beside one that the app may have",
			[][2]string{{"reserved-ports", fmt.Sprintf("%d,%d,%d", a, b, c)}}, [][2]string{{"allowed-ports", fmt.Sprint(a)}},
			[]string{at("127.0.0.1", own), lead(a, private), lead(b, private), lead(c, private)}, "reserved-ports", "",
		}, {
			"ports that apps may not use",
			[][2]string{{"allowed-ports", fmt.Sprint(own)}}, nil,
			[]string{at("127.0.0.1", own), lead(a, private), lead(b, private)}, "allowed-ports", "",
		}, {
			"an address that apps may not bind",
			[][2]string{{"allow-bind", "127.0.0.1"}}, nil,
			[]string{at("127.0.0.1", own), at("127.0.0.2", a), at("127.0.0.3", b)}, "allow-bind", "127.0.0.1,127.0.0.2,127.0.0.3",
		}, {
			"all addresses",
			[][2]string{{"allow-bind", "127.0.0.0/8"}}, [][2]string{{"allow-bind", "127.0.0.1"}},
			[]string{at("127.0.0.1", own), lead(a, private)}, "allow-bind", "any",
		}, {
			"too many ports", [][2]string{{"max-ports", "1"}}, [][2]string{{"max-ports", "2"}},
			[]string{at("127.0.0.1", own), lead(a, private), lead(b, private), lead(c, private)}, "max-ports", "4",
		},
	} {
		h.run(test.name, func() {
			for _, setting := range test.set {
				h.expose(0, "set", "--global", setting[0], setting[1])
			}
			for _, setting := range test.own {
				h.expose(0, "set", "mail", setting[0], setting[1])
			}
			said := h.refused("pre-build", "mail", source("v2", test.lines...))
			h.wants(said, "(setting "+test.rule+")")
			h.wants(h.expose(1, "add", append([]string{"mail"}, test.lines[1:]...)...).Stderr, "(setting "+test.rule+")", "expose:add")
			key, value := h.follow(said, "mail")
			if want := test.command; want != "" && value != want {
				h.t.Errorf("the command sets %s %s, want %s", key, value, want)
			}
			h.push("mail", source("v2", test.lines...))
			for _, setting := range append(test.set, [2]string{key}) {
				h.expose(0, "set", "mail", setting[0])
			}
			// What is in force stays, but can't be pushed again.
			h.answers(own, "v2")
			h.refused("pre-build", "mail", source("v2", test.lines...))
			for _, setting := range test.set {
				h.expose(0, "set", "--global", setting[0])
			}
			h.push("mail", source("v1", at("127.0.0.1", own)))
		})
	}
}

var remedy = regexp.MustCompile(`dokku expose:set (\S+) (\S+) (\S+)`)

// follow runs the one command that a refusal names. It returns what the command sets.
func (h *host) follow(said, app string) (key, value string) {
	h.t.Helper()
	commands := remedy.FindAllStringSubmatch(said, -1)
	if len(commands) != 1 || commands[0][1] != app {
		h.t.Fatalf("the commands %q, want one about %s, in:\n%s", commands, app, strings.TrimSpace(said))
	}
	h.expose(0, "set", commands[0][1:]...)
	return commands[0][2], commands[0][3]
}
