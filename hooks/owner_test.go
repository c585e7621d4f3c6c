package hooks_test

import (
	"slices"
	"strings"
	"testing"

	"dokku-expose/hooks"
	"dokku-expose/internal/rig"
)

// ps:restart deploys the image of a push that failed, with what its PORTS asks for. What another app has got since then stays
// that app's, whatever part of the claims Dokku's checks see.
func TestRestartTakesNoPortOfARunningApp(t *testing.T) {
	t.Parallel()
	without := func(triggers ...string) func(*rig.Options) {
		return func(o *rig.Options) {
			o.Triggers = slices.DeleteFunc(hooks.Triggers(), func(name string) bool { return slices.Contains(triggers, name) })
		}
	}
	const args, retired = "docker-args-process-deploy", "scheduler-register-retired"
	for _, test := range []struct {
		name      string
		host      func(*rig.Options)
		unchecked bool   // checks:disable
		option    string // of the port that the other app gets
		refused   string // the trigger
	}{
		// Dokku is about to stop the old container.
		{"without checks", func(*rig.Options) {}, true, "", retired},
		{"a process type without containers", func(*rig.Options) {}, false, " process=worker", args},
		// Where the image has the name of a registry, nobody can tell which one it is before there is a container.
		{"without checks, the image seen late", without(args, retired), true, "", "post-deploy"},
		{"a process type without containers, the image seen late", without(args), false, " process=worker", "check-deploy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := start(t, test.host)
			own, wanted := h.port(), h.port()
			h.push("mail", source("v1", lead(own, private)))
			if err := h.Push("mail", source("v2", lead(own, private), lead(wanted, private)+test.option), rig.FailCheck("web.1")); err == nil {
				t.Fatal("the push went well")
			}
			h.push("zulu", source("zulu", lead(wanted, private)))
			if test.unchecked {
				h.must(h.ChecksDisable("mail"))
			}
			listed := h.expose(0, "list", "zulu").Stdout

			var text strings.Builder
			h.fails(test.refused, h.Restart("mail", said(&text)))
			h.wants(text.String(), "belongs to the app zulu")
			h.answers(wanted, "zulu")
			if test.refused != "post-deploy" {
				h.answers(own, "v1")
			}
			h.Command("sync") // what it says of mail is not judged here
			h.answers(wanted, "zulu")
			if now := h.expose(0, "list", "zulu").Stdout; now != listed {
				t.Errorf("expose:list says\n%swant\n%s", now, listed)
			}
		})
	}
}

// Dokku keeps the half of a failed deploy that went well, with a port that another app may have got meanwhile. While that
// app is stopped the port is its own still.
func TestStoppedAppKeepsItsPortFromAHalfDeployedOne(t *testing.T) {
	t.Parallel()
	h := start(t)
	own, wanted := h.port(), h.port()
	h.push("mail", source("v1", lead(own, private)))
	h.must(h.Scale("mail", "web", 2))
	if err := h.Push("mail", source("v2", lead(own, private), lead(wanted, private)), rig.FailCheck("web.2")); err == nil {
		t.Fatal("the push went well")
	}
	h.push("zulu", source("zulu", lead(wanted, private)))
	h.answers(wanted, "zulu")
	h.must(h.Stop("zulu"))
	h.closed(wanted)
	h.wants(h.expose(1, "sync").Stderr, "mail: public port", "belongs to the app zulu")
	h.closed(wanted)
	h.must(h.Start("zulu"))
	h.answers(wanted, "zulu")
}
