package hooks_test

import (
	"fmt"
	"strings"
	"testing"

	"dokku-expose/internal/rig"
)

// dockerOption has Dokku give the new containers of an app this option, or none.
func (h *host) dockerOption(app, text string) {
	h.t.Helper()
	h.must(h.SetProperty("docker-options", app, "_default_.deploy", text))
}

// An app that published its ports with Docker has them in its own way. What the refusal names must be enough.
func TestPortThatTheAppItselfPublishes(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public := h.port()
		option := fmt.Sprintf("-p %d:%d", public, private)
		h.dockerOption("mail", option)
		h.push("mail", source("v1"))
		h.answers(public, "v1")

		remedy := fmt.Sprintf(`dokku docker-options:remove mail deploy %q, then dokku ps:stop mail; the next deploy`, option)
		refusal := h.refused("pre-build", "mail", source("v2", lead(public, private)))
		h.wants(refusal, fmt.Sprintf("public port %d (PORTS line 1): the app's own container mail.web.1", public), remedy)
		h.wants(h.refused("pre-build", "chat", source("v1", lead(public, private))), "of the app mail publishes it", "dokku docker-options:remove mail")
		h.run("half of the remedy", func() {
			h.dockerOption("mail", "")
			h.wants(h.refused("pre-build", "mail", source("v2", lead(public, private))), "free it: dokku ps:stop mail;")
			h.dockerOption("mail", option)
			h.must(h.Stop("mail"))
			var text strings.Builder
			h.fails("check-deploy", h.Push("mail", source("v2", lead(public, private)), said(&text)))
			h.wants(text.String(), remedy)
		})
		h.run("the whole of it", func() {
			h.dockerOption("mail", "")
			h.must(h.Stop("mail"))
			h.push("mail", source("v3", lead(public, private)))
			h.answers(public, "v3")
			h.servedBy(public, h.current("mail", "web.1"))
		})
	})
}

// Docker publishes nothing of a container that is in the network of another one.
func TestNetworkOfAnotherContainer(t *testing.T) {
	t.Parallel()
	h := start(t, builtin, settings("check-timeout", "2s"))
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	h.dockerOption("mail", "--network container:"+h.current("mail", "web.1"))
	src := source("v2", lead(public, 5026))
	src.Listen = []uint16{5026}
	var text strings.Builder
	h.fails("check-deploy", h.Push("mail", src, said(&text)))
	h.wants(text.String(), "in the network of another container", "dokku docker-options:remove mail deploy")
	if strings.Contains(text.String(), "upstream published") {
		t.Errorf("what Docker refuses is named as the remedy:\n%s", &text)
	}
	h.dockerOption("mail", "")
	h.push("mail", src)
	h.answers(public, "v2")
}
