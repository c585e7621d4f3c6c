package hooks_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/internal/need"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/wait"
)

// settingsFile is the file of an app's settings, "" for the host's.
func (h *host) settingsFile(app string) string {
	dir := filepath.Join(h.Lib, "config", rig.Plugin)
	if app == "" {
		return filepath.Join(dir, "global.toml")
	}
	return filepath.Join(dir, "apps", app+".toml")
}

// spoil adds to a file. The function that it returns puts it back as it was.
func (h *host) spoil(file, addition string) (mend func()) {
	h.t.Helper()
	before, err := os.ReadFile(file)
	if !errors.Is(err, os.ErrNotExist) {
		h.must(err)
	}
	h.must(os.MkdirAll(filepath.Dir(file), 0o755))
	h.must(renameio.WriteFile(file, append(before, addition...), 0o644))
	return func() { h.must(renameio.WriteFile(file, before, 0o644)) }
}

// An operator closes ports while Docker can't be asked. They are closed at once, others and their connections go on, and when Docker
// is back nothing is opened again.
func TestClosingWithoutDocker(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		lose func(*gate)
	}{{"gone", (*gate).close}, {"hanging", (*gate).hang}} {
		t.Run(test.name, func(t *testing.T) {
			forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
				g := newGate(t)
				h := g.start(engine)
				mail, added, news, kept, other := h.port(), h.port(), h.port(), h.port(), h.port()
				h.push("mail", source("mail", lead(mail, private)))
				h.push("news", source("news", lead(news, private)))
				h.expose(0, "add", "mail", lead(added, private))
				h.expose(0, "add", "news", lead(kept, private), fmt.Sprintf("127.0.0.2:%d:%d", other, private))
				held, err := h.dial(news)
				h.must(err)
				echo := func() {
					h.t.Helper()
					h.must(held.SetDeadline(time.Now().Add(wait.Patience)))
					h.must(held.echo())
				}
				container := h.current("news", "web.1")

				test.lose(g)
				result := h.expose(0, "disable", "mail")
				h.wants(result.Stdout, fmt.Sprintf("Closed public ports of mail: %d, %d", min(mail, added), max(mail, added)))
				h.wants(result.Stderr, "Docker")
				h.closed(mail, added)
				h.wants(h.expose(0, "remove", "news", fmt.Sprintf("127.0.0.2:%d", other)).Stdout, fmt.Sprintf("Closed public ports of news: 127.0.0.2:%d", other))
				h.answers(news, "news")
				h.answers(kept, "news")
				echo()
				// Each of these waits for Docker before it has the lock.
				var waiting sync.WaitGroup
				waiting.Go(func() {
					h.wants(h.expose(0, "set", "--global", "reserved-ports", fmt.Sprint(other)).Stdout, "reserved-ports is set")
				})
				waiting.Go(func() { h.wants(h.expose(0, "set", "news", "max-ports", "3").Stdout, "max-ports is set") })
				waiting.Go(func() { h.wants(h.expose(0, "set", "news", "allow", "192.0.2.1").Stderr, "Docker") })
				waiting.Go(func() { h.expose(1, "enable", "mail") }) // that opens something
				waiting.Wait()
				h.closed(mail, added)
				for _, port := range []uint16{news, kept} {
					if _, err := h.dial(port); err == nil {
						h.t.Errorf("public port %d lets a client in that it must not", port)
					}
				}
				echo()

				g.answer()
				h.expose(0, "sync")
				h.closed(mail, added)
				h.expose(0, "set", "news", "allow")
				h.servedBy(news, container)
				echo()
				h.wants(h.expose(1, "add", "news", lead(other, private), lead(added, private)).Stderr, "(setting reserved-ports)", "(setting max-ports)")
				h.expose(0, "enable", "mail")
				h.answers(mail, "mail")
			})
		})
	}
}

// Files that somebody broke keep nobody from closing ports, and Dokku from nothing that it does to an app. What can be read is shown.
func TestClosingWithBrokenFiles(t *testing.T) { forEachEngine(t, closingWithBrokenFiles) }

func closingWithBrokenFiles(t *testing.T, engine func(*rig.Options)) {
	h := start(t, engine)
	mail, first, second, news := h.port(), h.port(), h.port(), h.port()
	h.push("mail", source("mail", lead(mail, private)))
	h.push("news", source("news", lead(news, private)))
	h.expose(0, "add", "mail", lead(first, private), lead(second, private))
	told := func(name string, args ...string) string {
		h.t.Helper()
		result, err := h.Trigger(name, args...)
		h.must(err)
		if result.Code != 0 {
			h.t.Errorf("%s %s: exit status %d, and Dokku would stop there\n%s", name, strings.Join(args, " "), result.Code, result.Stderr)
		}
		return result.Stdout + result.Stderr
	}

	for at, mistake := range []string{"hodl = \"5s\"\n", "no setting\n"} {
		h.run("the host's settings, "+strings.TrimSpace(mistake), func() {
			file := h.settingsFile("")
			mend := h.spoil(file, mistake)
			h.wants(told("report"), file, "mail expose information", "news expose information")
			h.wants(told("report", "news"), file, fmt.Sprint(news))
			result := h.expose(1, "list")
			h.wants(strings.Join(table(result.Stdout), "\n"), fmt.Sprintf("news %d ", news), "serving")
			h.wants(result.Stderr, file)
			h.wants(h.expose(1, "stats").Stdout, "news")
			public := []uint16{first, second}[at]
			h.wants(h.expose(0, "remove", "mail", fmt.Sprint(public)).Stdout, fmt.Sprintf("Closed public ports of mail: %d", public))
			h.closed(public)
			h.answers(mail, "mail")
			result = h.expose(0, "disable", "mail")
			h.wants(result.Stdout, "Closed public ports of mail: ", fmt.Sprint(mail))
			h.wants(result.Stderr, file)
			h.closed(mail)
			h.answers(news, "news")
			h.expose(1, "enable", "mail")
			mend()
			h.expose(0, "enable", "mail")
			h.answers(mail, "mail")
		})
	}
	h.run("the app's settings, a key", func() {
		file := h.settingsFile("mail")
		mend := h.spoil(file, "hold = \"soon\"\n")
		h.expose(0, "disable", "mail")
		h.closed(mail)
		mend()
		h.expose(0, "sync")
		h.answers(mail, "mail")
	})
	h.run("the app's settings, no TOML", func() {
		file := h.settingsFile("mail")
		mend := h.spoil(file, "no setting\n")
		h.wants(told("report", "mail"), file, "mail expose information")
		h.expose(0, "disable", "mail")
		h.closed(mail)
		h.expose(1, "sync")
		h.closed(mail)
		h.must(h.CreateApp("twin"))
		h.wants(told("post-app-clone-setup", "mail", "twin"), "twin gets none of the settings of mail", file, "dokku expose:set twin ports-file")
		mend()
		h.expose(0, "sync")
		h.answers(mail, "mail")
	})
	h.run("what is remembered", func() {
		file := filepath.Join(h.Lib, "data", rig.Plugin, "apps", "mail.json")
		before, err := os.ReadFile(file)
		h.must(err)
		h.must(renameio.WriteFile(file, []byte("{"), 0o600))
		h.wants(told("report"), file, "mail expose information", "news expose information")
		h.wants(strings.Join(table(h.expose(1, "list").Stdout), "\n"), fmt.Sprintf("news %d ", news))
		h.wants(told("post-stop", "mail"), file, fmt.Sprintf("Closed public ports of mail: %d", mail))
		h.closed(mail)
		h.must(h.CreateApp("post"))
		told("post-app-rename-setup", "mail", "post")
		h.closed(mail)
		h.must(renameio.WriteFile(file, before, 0o600))
		told("post-app-rename-setup", "mail", "post")
		if left := h.traces("mail.json"); left != nil {
			h.t.Errorf("left behind: %v", left)
		}
		h.wants(h.expose(0, "list", "post").Stdout, fmt.Sprint(mail))
	})
	h.run("destroyed", func() {
		mend := h.spoil(h.settingsFile(""), "no setting\n")
		h.must(h.Destroy("news"))
		h.closed(news)
		mend()
	})
}

// An engine that can't be asked closes what it was to close as soon as it can be. What is written down stays.
func TestClosingWithoutAnEngine(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public := h.port()
		h.push("mail", source("mail", lead(public, private)))
		signal := func(s syscall.Signal) {
			h.t.Helper()
			if group := h.HAProxyGroup(); group != 0 {
				h.must(syscall.Kill(-group, s))
			} else {
				h.must(h.SignalDaemon(s))
			}
		}
		h.run("hanging", func() {
			// Whoever is stopped with the lock keeps everybody from it.
			lock, err := deploy.Acquire(h.t.Context(), filepath.Join(h.Lib, "data", rig.Plugin, "lock"))
			h.must(err)
			signal(syscall.SIGSTOP)
			h.must(lock.Release())
			result := h.expose(1, "disable", "mail")
			signal(syscall.SIGCONT)
			h.wants(result.Stderr, "not known", "dokku expose:sync")
			h.expose(0, "sync")
			h.closed(public)
			h.expose(0, "enable", "mail")
			h.answers(public, "mail")
		})
		h.run("not running", func() {
			restarted(h, func() { h.expose(0, "disable", "mail") })
			await(h.t, "the engine knows", func() bool {
				result, err := h.Command("sync")
				return err == nil && result.Code == 0
			})
			h.closed(public)
		})
	})
}

// On a full disk ports are closed, and what must be done then is said.
func TestClosingOnAFullDisk(t *testing.T) {
	need.Mounts(t)
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public := h.port()
		h.push("mail", source("mail", lead(public, private)))
		apps := filepath.Join(h.Lib, "config", rig.Plugin, "apps")
		h.must(os.MkdirAll(apps, 0o755))
		h.must(unix.Mount("tmpfs", apps, "tmpfs", 0, "size=64k,mode=755"))
		t.Cleanup(func() { h.must(unix.Unmount(apps, unix.MNT_DETACH)) })
		filler, err := os.Create(filepath.Join(apps, "filler"))
		h.must(err)
		for err == nil {
			_, err = filler.Write(make([]byte, os.Getpagesize()))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			h.must(err)
		}

		result := h.expose(1, "disable", "mail")
		h.wants(result.Stdout, fmt.Sprintf("Closed public ports of mail: %d", public))
		h.wants(result.Stderr, "no space left", "could not be written down", "run: dokku expose:disable mail")
		h.closed(public)
		h.must(filler.Close())
		h.must(os.Remove(filler.Name()))
		h.expose(0, "disable", "mail")
		h.expose(0, "sync")
		h.closed(public)
	})
}

// Each command that changes ports says what has become of them.
func TestCommandsSayWhatTheyDo(t *testing.T) {
	t.Parallel()
	h := start(t)
	public, added, taken := h.port(), h.port(), h.port()
	says := func(want string, verb string, args ...string) {
		h.t.Helper()
		h.wants(h.expose(0, verb, args...).Stdout, want)
	}
	h.must(h.CreateApp("mail"))
	says("No public port of mail is open now", "add", "mail", lead(taken, private))
	says(fmt.Sprintf("Removed public ports of mail that were not open: %d", taken), "remove", "mail", fmt.Sprint(taken))
	says("No public port of mail was open", "disable", "mail")
	says("No public port of mail is open now", "enable", "mail")
	h.push("mail", source("v1", lead(public, private)))
	says("Public ports of mail", "add", "mail", lead(added, private))
	says(fmt.Sprintf("Closed public ports of mail: %d", added), "remove", "mail", fmt.Sprint(added))
	says(fmt.Sprintf("Closed public ports of mail: %d", public), "disable", "mail")
	says("Public ports of mail", "enable", "mail")
	var text strings.Builder
	h.must(h.Stop("mail", said(&text)))
	h.wants(text.String(), fmt.Sprintf("Closed public ports of mail: %d", public))
	h.push("mail", source("v1", lead(public, private)))
	text.Reset()
	h.must(h.Destroy("mail", said(&text)))
	h.wants(text.String(), fmt.Sprintf("Closed public ports of mail: %d", public))
}
