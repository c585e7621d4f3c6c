package dokku

import (
	"slices"
	"strings"
	"testing"
)

func TestPublishes(t *testing.T) {
	for options, want := range map[string]string{
		"-p 2780:5025":                      "tcp",
		"-p2780:5025":                       "tcp",
		"-p=2780:5025":                      "tcp",
		"--publish 2780:5025/tcp":           "tcp",
		"--publish=127.0.0.1:2780:5025":     "tcp",
		`-p "[::1]:2780:5025"`:              "tcp",
		"-p 2779-2781:1-3":                  "tcp",
		"-v /a:/b -p 1:2 -p 2780:5025":      "tcp",
		"-p 2780:5025/udp":                  "udp",
		"--publish=127.0.0.1:2780:5025/UDP": "udp",
		"-p 2779-2781:1-3/udp":              "udp",
		"-p 2780:5025/udp -p 2780:5025":     "tcp udp",
		"-p 5025:2780":                      "",
		"-p 2780":                           "",
		"-p 2780/udp":                       "",
		"-p 2781-2790:1-10":                 "",
		"-p 2780:5025/sctp":                 "",
		"-v 2780:5025":                      "",
		"--env PORT=2780:5025":              "",
		"--publish-all --label x.2780:502":  "",
	} {
		var got []string
		for _, protocol := range []string{"tcp", "udp"} {
			if publishes(options, protocol, 2780) {
				got = append(got, protocol)
			}
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s: %q, want %q", options, got, want)
		}
	}
}

func TestPublishing(t *testing.T) {
	e := host(t, map[string]string{
		"root/mail/DOCKER_OPTIONS_DEPLOY":                  "--restart=always\n-p 2780:1\n",
		"lib/config/docker-options/mail/_default_.deploy":  "-v /a:/b\n-p 2780:5025\n-p 2780:53/udp\n",
		"lib/config/docker-options/mail/imap.deploy":       "-p 127.0.0.1:2780:5993",
		"lib/config/docker-options/mail/_default_.build":   "-p 2780:5025",
		"lib/config/docker-options/other/_default_.deploy": "-p 2780:5025",
		"lib/config/docker-options/mail/deploy-migrated":   "true",
	})
	options, err := e.Publishing("mail", "tcp", 2780)
	var got []string
	for _, o := range options {
		got = append(got, o.Removal("mail"))
	}
	slices.Sort(got)
	want := []string{
		`dokku docker-options:remove --process imap mail deploy "-p 127.0.0.1:2780:5993"`,
		`dokku docker-options:remove mail deploy "-p 2780:1"`,
		`dokku docker-options:remove mail deploy "-p 2780:5025"`,
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	udp := []DockerOption{{Text: "-p 2780:53/udp"}}
	if options, err := e.Publishing("mail", "udp", 2780); !slices.Equal(options, udp) || err != nil {
		t.Errorf("got %v, %v, want %v", options, err, udp)
	}
	if options, err := e.Publishing("none", "tcp", 2780); len(options) > 0 || err != nil {
		t.Errorf("got %v, %v", options, err)
	}
}
