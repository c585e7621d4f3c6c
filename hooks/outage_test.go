package hooks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/renameio/v2"

	"dokku-expose/internal/rig"
	"dokku-expose/internal/wait"
)

// A file that an operator broke by hand stops its own app's deploys. That app's ports stay what they are, and nobody else
// sees anything of it.
func TestBrokenSettingsOfOneAppConcernNoOther(t *testing.T) {
	t.Parallel()
	h := start(t)
	mail, chat := h.port(), h.port()
	h.push("mail", source("v1", lead(mail, private)))
	h.push("chat", source("v1", lead(chat, private)))
	worker := h.worker()
	file := filepath.Join(h.Lib, "config", rig.Plugin, "apps", "mail.toml")
	h.must(os.MkdirAll(filepath.Dir(file), 0o755))
	h.must(renameio.WriteFile(file, []byte("# mine\nhold = \"soon\"\n"), 0o644))

	h.wants(h.refused("pre-build", "mail", source("v2", lead(mail, private))), "mail.toml", ":2", "hold", "soon")
	h.answers(mail, "v1")
	h.push("chat", source("v2", lead(chat, private)))
	h.answers(chat, "v2")
	h.answers(mail, "v1")
	h.wants(h.expose(1, "check").Stderr, "mail.toml", "soon")
	h.expose(0, "check", "chat")
	h.wants(h.expose(1, "sync").Stderr, "mail.toml")
	h.answers(mail, "v1")
	if h.worker() != worker {
		t.Error("HAProxy was reloaded for it")
	}

	// What an operator wants of the app goes on all the same.
	h.must(h.Stop("mail"))
	h.closed(mail)
	h.must(h.Destroy("mail"))
	h.wants(h.expose(0, "check").Stdout, "Nothing is wrong")
}

// Without a running HAProxy the deploys of apps with public ports fail and say how to start it; all others go on.
func TestWithoutHAProxyOnlyAppsWithPortsFail(t *testing.T) {
	t.Parallel()
	h := start(t)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	h.push("web", source("v1"))
	old := h.current("mail", "web.1")
	h.must(h.StopHAProxy())
	const remedy = "systemctl start dokku-expose-haproxy"

	var text strings.Builder
	h.must(h.Push("web", source("v2"), said(&text)))
	h.must(h.Restart("web", said(&text)))
	if text.Len() > 0 {
		t.Errorf("the deploys of an app without ports say %q", &text)
	}
	h.fails("post-deploy", h.Push("mail", source("v2", lead(public, private)), said(&text)))
	h.wants(text.String(), remedy)
	info, err := h.Docker.ContainerInspect(t.Context(), old)
	if err != nil || !info.State.Running {
		t.Errorf("the old container does not run any more: %v", err)
	}
	h.wants(h.expose(1, "check").Stderr, remedy)
	h.wants(h.expose(1, "sync").Stderr, remedy)
	h.wants(h.expose(1, "stats").Stderr, remedy)
	h.wants(h.expose(0, "list").Stdout, "mail", "closed")
	h.wants(h.expose(1, "add", "mail", lead(h.port(), private)).Stderr, remedy, "nothing was changed")
	h.must(h.Restart("web", said(&text)))

	h.run("and when it runs again", func() {
		h.must(h.StartHAProxy())
		h.expose(0, "sync")
		h.answers(public, "v2") // Dokku has written the new container down
		h.push("mail", source("v3", lead(public, private)))
		h.answers(public, "v3")
		h.expose(0, "check")
	})
}

// Not parallel: the commands find no Docker through this process's environment.
func TestWithoutDockerOnlyAppsWithPortsFail(t *testing.T) {
	h := start(t)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	const nowhere = "tcp://127.0.0.1:1"

	var text strings.Builder
	h.must(h.Push("web", source("v1"), rig.Env("DOCKER_HOST="+nowhere), said(&text)))
	h.must(h.Scale("web", "web", 2, rig.Env("DOCKER_HOST="+nowhere), said(&text)))
	if text.Len() > 0 {
		t.Errorf("the deploys of an app without ports say %q", &text)
	}
	h.wants(h.refused("pre-build", "mail", source("v2", lead(public, private)), rig.Env("DOCKER_HOST="+nowhere)), nowhere)
	h.answers(public, "v1")

	t.Setenv("DOCKER_HOST", nowhere)
	h.wants(h.expose(0, "list").Stdout, "mail", "unknown")
	h.wants(h.expose(1, "check").Stderr, nowhere)
	h.wants(h.expose(1, "sync").Stderr, nowhere)
	// What the engine counts is shown, with the addresses that it knows containers by.
	shown := h.expose(0, "stats")
	h.wants(shown.Stderr, "Docker can't be asked", nowhere)
	got := h.stats("mail")
	if len(got.Routes) != 1 || len(got.Routes[0].Servers) != 1 {
		t.Fatalf("%+v", got)
	}
	r := got.Routes[0]
	h.wants(got.Warning, "Docker can't be asked", nowhere)
	if s := r.Servers[0]; r.Process != "web" || r.Total == 0 || s.Container != "" || !s.Up {
		t.Errorf("%+v", r)
	}
	h.wants(strings.Join(table(shown.Stdout), "\n"), fmt.Sprintf("mail %d web - - serving ", public), " "+r.Servers[0].Addr.String()+" ready ")
	h.answers(public, "v1") // what is served is left alone
}

// What an app's broken settings say is not known, so its ports go on by the host's: nothing of it ends, nothing is reloaded.
func TestBrokenSettingsEndNoConnection(t *testing.T) {
	t.Parallel()
	h := start(t)
	port := h.port()
	h.push("mail", lingering("v1", lead(port, private)))
	old, err := h.dial(port)
	h.must(err)
	h.push("mail", source("v2", lead(port, private)))
	worker := h.worker()

	file := filepath.Join(h.Lib, "config", rig.Plugin, "apps", "mail.toml")
	h.must(os.MkdirAll(filepath.Dir(file), 0o755))
	h.must(renameio.WriteFile(file, []byte("hold = \"soon\"\n"), 0o644))
	h.wants(h.expose(1, "sync").Stderr, file)
	if err := old.echo(); err != nil {
		t.Errorf("a connection to the old container was ended: %v", err)
	}
	h.answers(port, "v2")
	if now := h.worker(); now != worker {
		t.Errorf("HAProxy was reloaded: its worker was %s and is %s", worker, now)
	}
}

// A mistake in the host's settings stops what hooks and commands do. The daemon goes on taking containers out of service that are
// gone: their addresses are other apps' in a moment.
func TestMistakeInTheHostsSettingsKeepsNobodyInService(t *testing.T) {
	forEachEngine(t, testMistakeInTheHostsSettings)
}

func testMistakeInTheHostsSettings(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine, settings("hold", wait.Patience.String()))
	mailPort, chatPort, newsPort := h.port(), h.port(), h.port()
	h.push("mail", source("mail-1", lead(mailPort, private)))
	h.push("chat", source("chat-1", lead(chatPort, private)))
	h.push("news", source("news-1", lead(newsPort, private)))
	h.watched()
	// The daemon has not read that by itself when the mistake is made.
	added := h.port()
	h.expose(0, "add", "news", lead(added, private))
	mail, chat := h.current("mail", "web.1"), h.current("chat", "web.1")
	l := h.load(mailPort, 2, 0)
	h.seen(l, 10)

	file := filepath.Join(h.Lib, "config", rig.Plugin, "global.toml")
	text, err := os.ReadFile(file)
	h.must(err)
	h.must(renameio.WriteFile(file, append(text, "hodl = \"5s\"\n"...), 0o644))
	h.wants(h.expose(1, "sync").Stderr, file, "hodl")
	h.kill(mail, chat)
	h.held("mail", mailPort)
	h.held("chat", chatPort)
	h.startAgain(chat, mail)
	h.answers(newsPort, "news-1")
	h.answers(added, "news-1")
	h.wants(h.daemonLog(), "hodl")

	h.must(renameio.WriteFile(file, text, 0o644))
	h.answers(mailPort, "mail-1")
	h.answers(chatPort, "chat-1")
	h.seen(l, 10)
	h.onlyMailAnswered(l)
}

// Nor does one that a new daemon finds, which never read anything else: who serves what is the engine's to tell then.
func TestMistakeInTheHostsSettingsAtTheDaemonsStart(t *testing.T) {
	t.Parallel()
	h := start(t, settings("hold", wait.Patience.String()))
	mailPort, newsPort := h.port(), h.port()
	h.push("mail", source("mail-1", lead(mailPort, private)))
	h.push("news", source("news-1", lead(newsPort, private)))
	h.must(h.StopDaemon())
	file := filepath.Join(h.Lib, "config", rig.Plugin, "global.toml")
	text, err := os.ReadFile(file)
	h.must(err)
	h.must(renameio.WriteFile(file, append(text, "hodl = \"5s\"\n"...), 0o644))
	mail := h.current("mail", "web.1")
	h.must(h.StartDaemon())
	h.kill(mail)
	h.held("mail", mailPort)
	h.answers(newsPort, "news-1")

	h.must(renameio.WriteFile(file, text, 0o644))
	h.startAgain(mail)
	h.answers(mailPort, "mail-1")
	h.answers(newsPort, "news-1")
	h.expose(0, "check")
}
