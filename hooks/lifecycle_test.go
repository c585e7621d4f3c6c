package hooks_test

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"dokku-expose/internal/rig"
)

func TestStopStartRestartScale(t *testing.T) {
	t.Parallel()
	h := start(t)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	image := h.imageOf("mail")

	h.run("ps:stop closes the ports and keeps them", func() {
		h.must(h.Stop("mail"))
		h.closed(public)
		h.wants(h.expose(0, "list", "mail").Stdout, "stopped")
		h.expose(0, "sync")
		h.closed(public)
		h.wants(h.refused("pre-build", "thief", source("v1", lead(public, private))), "belongs to the app mail")
	})
	h.run("ps:start opens them, though the image is another one", func() {
		h.must(h.Start("mail"))
		h.answers(public, "v1")
		if h.imageOf("mail") == image {
			h.t.Error("ps:start deployed the same image: this part has tested nothing")
		}
	})
	h.run("ps:restart", func() {
		h.must(h.Restart("mail"))
		h.answers(public, "v1")
	})
	h.run("config:set", func() {
		h.must(h.ConfigSet("mail", "KEY"))
		h.answers(public, "v1")
	})
	h.run("ps:rebuild", func() {
		h.must(h.Rebuild("mail"))
		h.answers(public, "v1")
	})
	h.run("ps:scale to 0 closes the ports", func() {
		h.must(h.Scale("mail", "web", 0))
		h.closed(public)
		h.wants(h.expose(0, "list", "mail").Stdout, "closed")
	})
	h.run("ps:scale from 0 opens them", func() {
		// Dokku deploys an app that is scaled to 0 only when it is pushed or rebuilt.
		h.must(h.SetProperty("ps", "mail", "scale", "web=1"))
		h.must(h.Rebuild("mail"))
		h.answers(public, "v1")
	})
	h.run("a push starts a stopped app", func() {
		h.must(h.Stop("mail"))
		h.push("mail", source("v2", lead(public, private)))
		h.answers(public, "v2")
	})
	h.run("proxy:disable is about HTTP", func() {
		h.must(h.ProxyDisable("mail"))
		h.answers(public, "v2")
		h.must(h.ProxyEnable("mail"))
		h.answers(public, "v2")
	})
}

// imageOf is the image of an app's container.
func (h *host) imageOf(app string) string {
	h.t.Helper()
	info, err := h.Docker.ContainerInspect(h.t.Context(), h.current(app, "web.1"))
	h.must(err)
	return info.Image
}

func TestRenameTakesPortsAndSettingsAlong(t *testing.T) {
	t.Parallel()
	h := start(t)
	public, operator := h.port(), h.port()
	h.push("mail", source("v1", lead(public, private)))
	h.expose(0, "add", "mail", lead(operator, private))
	h.expose(0, "set", "mail", "hold", "33s")

	h.must(h.Rename("mail", "post"))
	h.answers(public, "v1")
	h.answers(operator, "v1")
	if traces := h.traces("mail"); traces != nil {
		t.Errorf("the old name is left in %v", traces)
	}
	if got := h.expose(0, "report", "post", "--expose-computed-hold").Stdout; got != "33s\n" {
		t.Errorf("hold is %q after the rename", got)
	}
	h.expose(20, "list", "mail")
	h.run("and a new app with the old name has none of it", func() {
		h.push("mail", source("v1"))
		h.wants(h.refused("pre-build", "mail", source("v2", lead(public, private))), "belongs to the app post")
	})
}

func TestCloneGetsNoPorts(t *testing.T) {
	t.Parallel()
	h := start(t)
	public, operator, own := h.port(), h.port(), h.port()
	h.push("mail", source("v1", lead(public, private)))
	h.expose(0, "add", "mail", lead(operator, private))
	original := h.current("mail", "web.1")

	var text strings.Builder
	h.must(h.Clone("mail", "twin", said(&text)))
	h.wants(text.String(), "twin gets none of the public ports of mail", "dokku expose:set twin ports-file PORTS.twin")
	h.servedBy(public, original)
	h.servedBy(operator, original)
	if got := h.expose(0, "list", "twin", "--format", "json").Stdout; got != "[]\n" {
		t.Errorf("the clone has the ports %s", got)
	}
	h.run("before it has a file of its own", func() {
		h.expose(0, "set", "twin", "ports-file", "PORTS.twin")
		src := source("twin", lead(public, private))
		src.Files["PORTS.twin"] = lead(own, private)
		h.push("twin", src)
		h.answers(own, "twin")
		h.servedBy(public, original)
	})
	h.run("without a deploy", func() {
		h.must(h.Clone("mail", "third", rig.SkipDeploy()))
		h.servedBy(public, original)
	})
}

func TestDestroyLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	h := start(t)
	before := h.files()
	public, operator := h.port(), h.port()
	h.push("mail", source("v1", lead(public, private)))
	h.expose(0, "add", "mail", lead(operator, private))
	h.expose(0, "set", "mail", "hold", "33s")

	h.must(h.Destroy("mail"))
	h.closed(public, operator)
	if traces := h.traces("mail"); traces != nil {
		t.Errorf("left behind: %v", traces)
	}
	// HAProxy's configuration is written with what it runs with, down to the last byte.
	after := h.files()
	for name := range after {
		if _, known := before[name]; !known {
			t.Errorf("left behind: %s", name)
		}
	}
	h.push("post", source("other", lead(public, private)))
	h.answers(public, "other")
}

// What comes and goes with the PORTS file of each deploy.
func TestPortsFollowTheFileOfEachDeploy(t *testing.T) {
	t.Parallel()
	h := start(t)
	a, b, c := h.port(), h.port(), h.port()
	for _, step := range []struct {
		name   string
		src    rig.Source
		before func()
		open   []uint16
		closed []uint16
	}{
		{name: "two ports", src: source("v1", lead(a, private), fmt.Sprintf("127.0.0.1:%d:%d", b, private)), open: []uint16{a, b}},
		{name: "a line is gone", src: source("v2", lead(a, private)), open: []uint16{a}, closed: []uint16{b}},
		{name: "the file is empty", src: source("v3", "# none"), closed: []uint16{a, b}},
		{name: "a range", src: source("v4", lead(a, private), lead(b, private), lead(c, private)), open: []uint16{a, b, c}},
		{name: "the file is gone", src: source("v5"), closed: []uint16{a, b, c}},
		{name: "another file", src: elsewhere("v6", "ops/PORTS", lead(b, private)),
			before: func() { h.expose(0, "set", "mail", "ports-file", "ops/PORTS") }, open: []uint16{b}, closed: []uint16{a, c}},
		{name: "ignore", src: elsewhere("v7", "ops/PORTS", lead(b, private)),
			before: func() { h.expose(0, "set", "mail", "ports-file", "ignore") }, closed: []uint16{a, b, c}},
		{name: "the usual file again", src: source("v8", lead(a, private)),
			before: func() { h.expose(0, "set", "mail", "ports-file") }, open: []uint16{a}, closed: []uint16{b, c}},
	} {
		h.run(step.name, func() {
			if step.before != nil {
				step.before()
			}
			h.push("mail", step.src)
			for _, port := range step.open {
				h.answers(port, step.src.Version)
			}
			h.closed(step.closed...)
		})
	}
}

// elsewhere is an app whose PORTS has another name.
func elsewhere(version, file, line string) rig.Source {
	src := source(version)
	src.Files = map[string]string{file: line + "\n"}
	return src
}

func TestFromImageReadsPortsOutOfTheImage(t *testing.T) {
	t.Parallel()
	h := start(t)
	a, b := h.port(), h.port()
	image := func(name string, src rig.Source) string {
		ref, err := h.Image("example/"+name, src)
		h.must(err)
		return ref
	}
	h.must(h.CreateApp("bare"))
	h.must(h.CreateApp("mail"))
	h.run("an image without PORTS leaves no trace", func() {
		before := h.files()
		var text strings.Builder
		h.must(h.FromImage("bare", image("bare", source("v1")), said(&text)))
		if text.Len() > 0 || !maps.Equal(before, h.files()) {
			h.t.Errorf("the plugin says %q, and its files are %v", &text, h.files())
		}
	})
	h.run("in /app", func() {
		h.must(h.FromImage("mail", image("one", source("v1", lead(a, private)))))
		h.answers(a, "v1")
	})
	h.run("in the folder that the image works in", func() {
		src := source("v2", lead(b, private))
		src.WorkDir = "/srv/mail"
		h.must(h.FromImage("mail", image("two", src)))
		h.answers(b, "v2")
		h.closed(a)
	})
	h.run("what it can't have is refused before its container is made", func() {
		h.push("chat", source("chat", lead(a, private)))
		h.wants(h.refusedImage("mail", image("three", source("v3", lead(a, private)))), "belongs to the app chat")
		h.answers(b, "v2")
	})
	h.run("a next one without PORTS closes them", func() {
		h.must(h.FromImage("mail", image("four", source("v4"))))
		h.closed(b)
	})
}

// refusedImage deploys an image that must be refused once it is there. It returns what the plugin said.
func (h *host) refusedImage(app, ref string) string {
	h.t.Helper()
	old, unmoved := h.current(app, "web.1"), h.unmoved()
	var text strings.Builder
	h.fails("post-release-builder", h.FromImage(app, ref, said(&text)))
	unmoved()
	if h.current(app, "web.1") != old {
		h.t.Error("the container is another one")
	}
	return text.String()
}

func TestAppsWithoutPortsPayNothing(t *testing.T) {
	t.Parallel()
	h := start(t)
	before := h.files()
	var text strings.Builder
	note := said(&text)
	h.must(h.Push("web", source("v1"), note))
	h.must(h.Push("web", source("v2"), note))
	h.must(h.Scale("web", "web", 2, note))
	h.must(h.Restart("web", note))
	h.must(h.Stop("web", note))
	h.must(h.Start("web", note))
	h.must(h.Rename("web", "site", note))
	h.must(h.Clone("site", "copy", note))
	h.must(h.Destroy("copy", note))
	if text.Len() > 0 {
		t.Errorf("the plugin says %q", &text)
	}
	if after := h.files(); !maps.Equal(before, after) {
		t.Errorf("the files of the plugin have changed from\n%v\nto\n%v", before, after)
	}
}

func TestOtherSchedulersAreLeftAlone(t *testing.T) {
	t.Parallel()
	for _, scheduler := range []string{"null", "nomad"} {
		t.Run(scheduler, func(t *testing.T) {
			h := start(t)
			public := h.port()
			h.must(h.CreateApp("mail"))
			h.must(h.SetProperty("scheduler", "mail", "selected", scheduler))
			before := h.files()
			h.wants(h.push("mail", source("v1", lead(public, private))), "mail: PORTS is left alone", "docker-local", scheduler)
			h.closed(public)
			if after := h.files(); !maps.Equal(before, after) {
				t.Errorf("the files of the plugin have changed to %v", after)
			}
			h.run("and give its ports back when they are chosen", func() {
				h.must(h.SetProperty("scheduler", "mail", "selected", ""))
				h.push("mail", source("v2", lead(public, private)))
				h.answers(public, "v2")
				h.must(h.SetProperty("scheduler", "mail", "selected", scheduler))
				h.push("mail", source("v3", lead(public, private)))
				h.expose(0, "sync")
				h.closed(public)
			})
		})
	}
}

func TestProcessTypesHavePortsOfTheirOwn(t *testing.T) {
	t.Parallel()
	h := start(t)
	web, imap := h.port(), h.port()
	src := source("v1", lead(web, private), lead(imap, 5993)+" process=imap")
	src.Processes = map[string]string{"imap": "-ports 5993"}
	h.push("mail", src)
	h.answers(web, "v1")
	h.closed(imap)
	h.must(h.Scale("mail", "imap", 2))
	h.servedBy(imap, h.current("mail", "imap.1"), h.current("mail", "imap.2"))
	h.servedBy(web, h.current("mail", "web.1"))
	h.must(h.Scale("mail", "imap", 0))
	h.closed(imap)
	h.answers(web, "v1")
}

// Names that Dokku takes, and that other languages give a meaning to.
func TestAppNamesAreSafeEverywhere(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, app := range []string{"a.b-c_d", "global", "haproxy.cfg", strings.Repeat("long-name.", 19) + "end"} {
		h.run(app[:min(20, len(app))], func() {
			public := h.port()
			h.push(app, source("v1", lead(public, private)))
			h.answers(public, "v1")
			h.wants(h.expose(0, "list", app).Stdout, app, "serving")
			h.must(h.Destroy(app))
			h.closed(public)
		})
	}
	h.wants(h.expose(0, "list").Stdout, "APP")
}

// Hosts that do not reach containers directly reach them through ports that Docker publishes on 127.0.0.1.
func TestPublishedUpstream(t *testing.T) {
	t.Parallel()
	h := start(t)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	published := func(app string) int {
		info, err := h.Docker.ContainerInspect(t.Context(), h.current(app, "web.1"))
		h.must(err)
		for _, binding := range info.NetworkSettings.Ports["5025/tcp"] {
			if binding.HostIP != "127.0.0.1" {
				t.Errorf("the container of %s publishes its port on %q", app, binding.HostIP)
			}
		}
		return len(info.NetworkSettings.Ports["5025/tcp"])
	}
	// A container that publishes nothing, since it is older than the setting, goes on as it did.
	for _, scope := range []string{"mail", "--global"} {
		h.expose(0, "set", scope, "upstream", "published")
		h.answers(public, "v1")
		result := h.expose(0, "sync")
		h.wants(result.Stderr, "publishes no port 5025", "dokku ps:restart mail", "until then it goes on serving")
		h.answers(public, "v1")
	}
	h.must(h.Restart("mail"))
	h.answers(public, "v1")
	h.push("mail", source("v2", lead(public, private)))
	h.answers(public, "v2")
	if n := published("mail"); n != 1 {
		t.Errorf("the container publishes its port %d times", n)
	}
	// Docker's proxy accepts even where nobody listens in the container, so there a connection has to last.
	h.expose(0, "set", "mail", "check-timeout", "1s")
	for name, env := range map[string]string{"nobody listens": "NOLISTEN=1", "every connection is closed at once": "SLAM=1"} {
		var text strings.Builder
		if err := h.Push("mail", source("v3", lead(public, private)), rig.ContainerEnv("web.1", env), said(&text)); err == nil {
			t.Errorf("%s: the push went well", name)
		}
		h.wants(text.String(), "accepts connections and closes them at once")
		h.answers(public, "v2")
	}
}

// A folder called PORTS is the app's own affair. To the plugin such an app has no PORTS file, in a repository or in an image.
func TestFolderCalledPortsIsNoPortsFile(t *testing.T) {
	t.Parallel()
	h := start(t)
	public, added := h.port(), h.port()
	folder := func() rig.Source {
		return prepared("PORTS", func(path string) error { return os.Mkdir(path, 0o755) })
	}
	h.run("an app without ports", func() {
		if text := h.push("docs", folder()); text != "" {
			h.t.Errorf("the plugin says %q", text)
		}
	})
	h.push("mail", source("v1", lead(public, private)))
	h.expose(0, "add", "mail", lead(added, private))
	h.run("an app with ports", func() {
		h.wants(h.push("mail", folder()), "mail: PORTS is a folder", "dokku expose:set mail ports-file")
		h.closed(public)
		h.answers(added, "v2")
	})
	h.run("an image", func() {
		ref, err := h.Image("example/mail", folder())
		h.must(err)
		h.must(h.FromImage("mail", ref))
		h.closed(public)
		h.answers(added, "v2")
	})
}
