package haproxy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/need"
)

func savedFile(h *haproxytest.HAProxy) string {
	return filepath.Join(filepath.Dir(h.Config.ConfigFile), "haproxy.json")
}

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// edit changes the configuration as an operator does.
func edit(t *testing.T, h *haproxytest.HAProxy, from, to string) {
	t.Helper()
	text := file(t, h)
	if !strings.Contains(text, from) {
		t.Fatalf("the configuration has no %q:\n%s", from, text)
	}
	overwrite(t, h.Config.ConfigFile, strings.ReplaceAll(text, from, to))
}

func file(t *testing.T, h *haproxytest.HAProxy) string {
	t.Helper()
	text, err := os.ReadFile(h.Config.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wantOptions wants the engine to report a route's options and process type.
func wantOptions(t *testing.T, h *haproxytest.HAProxy, r deploy.Route) {
	t.Helper()
	if got := serving(t, h)[r.Key]; got.App != r.App || got.Process != r.Process || got.Options != r.Options {
		t.Errorf("serving %+v, want app %s, process type %s, options %s", got, r.App, r.Process, r.Options)
	}
}

func wantStale(t *testing.T, h *haproxytest.HAProxy, text string) {
	t.Helper()
	if s := status(t, h); !strings.Contains(s.Stale, text) || (s.Stale == "") != (text == "") {
		t.Errorf("stale: %q, want %q", s.Stale, text)
	}
}

// The options in force are known exactly at each moment at which an Apply can die, before and after a restart of HAProxy.
func TestOptionsAfterAnApplyThatDied(t *testing.T) {
	v1, mail := enginetest.NewServer(t, "v1"), port(t)
	shut := withOptions(t, route("mail", mail, v1), "allow=10.0.0.0/8 rate=500/10s")
	open := withOptions(t, route("mail", mail, v1), "allow=127.0.0.0/8 rate=500/10s")
	news := route("news", port(t), v1)
	for _, c := range []struct {
		name string
		next []deploy.Route
		// restore tells that the configuration was not yet replaced.
		restore bool
		stale   string
		running deploy.Route
	}{
		{"between the files of a change without a reload", []deploy.Route{open}, true, "", shut},
		{"between the files of a change with a reload", []deploy.Route{open, news}, true, "", shut},
		{"before HAProxy was told", []deploy.Route{open}, false, "other clients", open},
		{"before the reload", []deploy.Route{open, news}, false, "another configuration", shut},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := haproxytest.Start(t)
			apply(t, h, shut)
			before := file(t, h)
			if err := h.Engine.Prepare(t.Context(), table(c.next...)); err != nil {
				t.Fatal(err)
			}
			if c.restore {
				overwrite(t, h.Config.ConfigFile, before)
			}
			wantOptions(t, h, c.running)
			wantStale(t, h, c.stale)
			closed(t, mail)

			h.Kill()
			h.Start()
			wantFresh(t, h)
			if c.restore {
				wantOptions(t, h, shut)
				closed(t, mail)
			} else {
				wantOptions(t, h, open)
				answers(t, mail, "v1")
			}
			apply(t, h, c.next...)
			wantFresh(t, h)
			wantOptions(t, h, open)
			answers(t, mail, "v1")
		})
	}
}

// An Apply rewrites files that do not belong together, although HAProxy runs as wanted.
func TestFilesThatDoNotMatch(t *testing.T) {
	h := haproxytest.Start(t)
	r := withOptions(t, route("mail", port(t), enginetest.NewServer(t, "v1")), "allow=127.0.0.1 rate=500/10s")
	apply(t, h, r)
	text := file(t, h)
	entries, err := os.ReadFile(savedFile(h))
	if err != nil {
		t.Fatal(err)
	}
	unknown := r
	unknown.Process, unknown.Options = "", deploy.Options{Allow: deploy.NetworksOf()}
	for _, c := range []struct {
		name   string
		change func(t *testing.T)
	}{
		{"an edited configuration", func(t *testing.T) { overwrite(t, h.Config.ConfigFile, text+"# edited\n") }},
		{"JSON that ends early", func(t *testing.T) { overwrite(t, savedFile(h), string(entries[:len(entries)-2])) }},
		{"an option of a newer version", func(t *testing.T) {
			newer := strings.ReplaceAll(string(entries), `"Rate":500`, `"Rate":500,"Newer":1`)
			if newer == string(entries) {
				t.Fatalf("no rate in %s", entries)
			}
			overwrite(t, savedFile(h), newer)
		}},
		{"no JSON file", func(t *testing.T) {
			if err := os.Remove(savedFile(h)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.change(t)
			wantStale(t, h, "somebody else has changed the file")
			wantOptions(t, h, unknown)
			if applied := apply(t, h, r); applied.Reload != "" || len(applied.Switched) > 0 {
				t.Errorf("%+v", applied)
			}
			wantFresh(t, h)
			wantOptions(t, h, r)
			if file(t, h) != text {
				t.Error("the configuration is not what it was")
			}
		})
	}
}

// An unreadable JSON file is an error that names it. Nothing is changed on a guess.
func TestUnreadableJSON(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2, mail := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), port(t)
	apply(t, h, route("mail", mail, v1))
	if err := os.Remove(savedFile(h)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(savedFile(h), 0o700); err != nil {
		t.Fatal(err)
	}
	_, serving := h.Engine.Observe(t.Context())
	_, status := h.Engine.Status(t.Context())
	_, applied := h.Engine.Apply(t.Context(), table(route("mail", mail, v2)))
	for _, err := range []error{serving, status, applied} {
		if !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), savedFile(h)) {
			t.Errorf("error %v, want one that names %s", err, savedFile(h))
		}
	}
	answers(t, mail, "v1")
}

// An Apply that changes nothing writes nothing. One in which only the container differs writes that, for an app of any name.
func TestFilesAreWrittenForAChangeOnly(t *testing.T) {
	h := haproxytest.Start(t)
	r := withOptions(t, route("caf\xe9", port(t), enginetest.NewServer(t, "v1")), "allow=127.0.0.1,2001:db8::/32 idle-timeout=5m balance=source")
	apply(t, h, r)
	wantOptions(t, h, r)
	stat := func() (infos []os.FileInfo) {
		for _, path := range []string{h.Config.ConfigFile, savedFile(h)} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			infos = append(infos, info)
		}
		return infos
	}
	before := stat()
	r.Servers[0].Proven = false
	apply(t, h, r)
	for i, now := range stat() {
		if !os.SameFile(before[i], now) {
			t.Errorf("%s was written anew", now.Name())
		}
	}
	r.Servers[0].Container = "another"
	apply(t, h, r)
	entries, err := os.ReadFile(savedFile(h))
	if err != nil || !strings.Contains(string(entries), `"another"`) {
		t.Errorf("%v, want the container in %s", err, entries)
	}
}

// A disk with room for the configuration but not for the JSON file: the configuration stays as it is, and a server that is gone
// leaves service.
func TestDiskTooFullForJSON(t *testing.T) {
	need.Mounts(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	h := haproxytest.Start(t, func(c *haproxy.Config) { c.ConfigFile = filepath.Join(dir, "haproxy.cfg") })
	v1, v2, mail, chat := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), port(t), port(t)
	shut := withOptions(t, route("mail", mail, v1), "allow=10.0.0.0/8")
	apply(t, h, shut, route("chat", chat, v1))
	before := file(t, h)

	next := route("chat", chat, v2)
	next.Servers[0].Container = strings.Repeat("x", 200_000) // in the JSON file only
	_, err := h.Engine.Apply(t.Context(), table(withOptions(t, route("mail", mail), "allow=127.0.0.0/8"), next))
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "HAProxy's configuration "+savedFile(h)+" can't be written") {
		t.Errorf("error %v, want one that tells of the full disk", err)
	}
	if file(t, h) != before {
		t.Error("the configuration was written without its entry")
	}
	wantOptions(t, h, shut)
	if serving := serving(t, h); len(serving[mail].Servers) > 0 || len(serving[chat].Servers) != 1 {
		t.Errorf("serving %v, want mail without its server, which is gone", serving)
	}
	answers(t, chat, "v1")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("the folder has %v, %v, want nothing but the two files", entries, err)
	}
}

// An app that is gone is named in no file.
func TestNothingOfAnAppStaysInTheFiles(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2, mail, chat := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), port(t), port(t)
	apply(t, h, route("mail", mail, v1), route("chat", chat, v1))
	apply(t, h, route("mail", mail, v1))
	for _, path := range []string{h.Config.ConfigFile, savedFile(h)} {
		if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "chat") || !strings.Contains(string(text), "mail") {
			t.Errorf("%s: %v\n%s", path, err, text)
		}
	}
	wantFresh(t, h)
	apply(t, h, route("mail", mail, v2))
	wantFresh(t, h)
}
