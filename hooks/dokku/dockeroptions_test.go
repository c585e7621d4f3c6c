package dokku

import (
	"slices"
	"testing"
)

func TestPublishes(t *testing.T) {
	for options, want := range map[string]bool{
		"-p 2780:5025":                     true,
		"-p2780:5025":                      true,
		"-p=2780:5025":                     true,
		"--publish 2780:5025/tcp":          true,
		"--publish=127.0.0.1:2780:5025":    true,
		`-p "[::1]:2780:5025"`:             true,
		"-p 2779-2781:1-3":                 true,
		"-v /a:/b -p 1:2 -p 2780:5025":     true,
		"-p 5025:2780":                     false,
		"-p 2780":                          false,
		"-p 2781-2790:1-10":                false,
		"-v 2780:5025":                     false,
		"--env PORT=2780:5025":             false,
		"-p 2780:5025/udp":                 false,
		"--publish-all --label x.2780:502": false,
	} {
		if got := publishes(options, 2780); got != want {
			t.Errorf("%s: %t", options, got)
		}
	}
}

func TestPublishing(t *testing.T) {
	e := host(t, map[string]string{
		"root/mail/DOCKER_OPTIONS_DEPLOY":                  "--restart=always\n-p 2780:1\n",
		"lib/config/docker-options/mail/_default_.deploy":  "-v /a:/b\n-p 2780:5025\n",
		"lib/config/docker-options/mail/imap.deploy":       "-p 127.0.0.1:2780:5993",
		"lib/config/docker-options/mail/_default_.build":   "-p 2780:5025",
		"lib/config/docker-options/other/_default_.deploy": "-p 2780:5025",
		"lib/config/docker-options/mail/deploy-migrated":   "true",
	})
	options, err := e.Publishing("mail", 2780)
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
	if options, err := e.Publishing("none", 2780); len(options) > 0 || err != nil {
		t.Errorf("got %v, %v", options, err)
	}
}
