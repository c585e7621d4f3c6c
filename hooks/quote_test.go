package hooks_test

import (
	"regexp"
	"strings"
	"testing"

	"dokku-expose/internal/rig"
)

// Dokku does not show the words of a container that our gate refuses.
func TestFailedDeployQuotesTheContainer(t *testing.T) {
	t.Parallel()
	h := start(t, builtin, settings("check-timeout", "10s"))
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	for _, row := range []struct {
		name string
		env  []string
		want []string
	}{
		{"stopped", []string{"PORTS=none"}, []string{
			"has stopped ", ", before its private ports accepted connections", "The last lines of container ", " (web.1):\n !         testapp: environment variable PORTS=\"none\"",
		}},
		{"accepts nothing", []string{"NOLISTEN=1", "SAY=\x1b[2Jno_configuration"}, []string{
			"nothing accepts connections on the private port", " (web.1):\n !         \\x1b[2Jno_configuration\n",
		}},
		{"says nothing", []string{"NOLISTEN=1"}, []string{"has written nothing to its standard output and error"}},
	} {
		h.run(row.name, func() {
			var text strings.Builder
			h.fails("check-deploy", h.Push("mail", source("v2", lead(public, private)), rig.ContainerEnv("web.1", row.env...), said(&text)))
			said := text.String()
			h.wants(said, row.want...)
			if exit := regexp.MustCompile(`has stopped with exit code ([^2]|2[^ ])`).FindString(said); exit != "" {
				h.t.Errorf("the wrong exit code is told: %s", exit)
			}
			if strings.Contains(said, "\x1b") || strings.Contains(said, "dokku logs") {
				h.t.Errorf("the terminal's own characters, or a hint at the old container's log:\n%s", said)
			}
			h.wants(h.expose(0, "logs", "mail").Stdout, "private port")
		})
	}
}
