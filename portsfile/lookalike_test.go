package portsfile_test

import (
	"errors"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/portsfile"
)

// Files that mean something else say so, one error for a line. A mapping with a slip in it is never taken for one of them.
func TestLinesThatLookLikeSomethingElse(t *testing.T) {
	for _, tt := range []struct{ line, like string }{
		{"ports:", "YAML"},
		{"web: 5000", "YAML"},
		{"  published: \"8080\"", "YAML"},
		{"---", "YAML"},
		{"- name: smtp", "YAML"},
		{"\"smtp port\": 25", "YAML"},
		{"- \"25:5025\"", "a line of a docker-compose file"},
		{"  - 127.0.0.1:25:5025/tcp", "a line of a docker-compose file"},
		{"- '6000-6010:7000-7010'", "a line of a docker-compose file"},
		{"- port 25 is for mail", "a list of Markdown or YAML"},
		{"* 25", "a list of Markdown or YAML"},
		{"| 25 | SMTP |", "Markdown"},
		{"```", "Markdown"},
		{"**Ports**", "Markdown"},
		{"db.example.com:5432", "a host:port pair"},
		{"localhost:5432,", "a host:port pair"},
		{"PORT=5000", "a variable of an .env file"},
		{"export SMTP_PORT=\"25\"", "a variable of an .env file"},
		{"[server]", "a section of an INI or TOML file"},
		{"[[ports]]", "a section of an INI or TOML file"},
		{"{", "JSON"},
		{"{\"smtp\": 25}", "JSON"},
		{"[{\"port\": 25},", "JSON"},
		{"  \"smtp\": 25,", "YAML"}, // JSON's lines are YAML, too
		{"}]", "JSON"},
		{"smtp 25/tcp mail", "a line of /etc/services"},
		{"tcp://0.0.0.0:25", "a URL"},
		{"<ports>", "XML or HTML"},

		{"25", ""},
		{"25:", ""},
		{"25: 5025", ""},
		{"25 : 5025", ""},
		{"25 5025", ""},
		{"25;5025", ""},
		{"25,587:5025", ""},
		{"25=5025", ""},
		{"-25:5025", ""},
		{"smtp:5025", ""},
		{"localhost:25:5025", ""},
		{"mail.example.com:25:5025", ""},
		{"[::1]", ""},
		{"[::1]:25", ""},
		{"[fe80]", ""},
		{"[::1:25:5025", ""},
		{"process=imap", ""},
		{"allow=10.0.0.0/8 25:5025", ""},
		{"5025/tcp", ""},
		{"25:5025 proces=imap", ""},
		{"web", ""},
	} {
		_, err := deploy.ParsePorts("PORTS", tt.line)
		var list portsfile.ErrorList
		if !errors.As(err, &list) {
			t.Errorf("%q is no error", tt.line)
			continue
		}
		if got := list[0].Like; got != tt.like {
			t.Errorf("%q looks like %q, want %q", tt.line, got, tt.like)
		}
		if said := strings.Contains(list[0].Msg, "looks like "+tt.like); said != (tt.like != "") {
			t.Errorf("%q: the message is %q", tt.line, list[0].Msg)
		}
		for _, e := range list[1:] {
			if e.Like != "" {
				t.Errorf("%q is told twice: %v", tt.line, list)
			}
		}
	}
}

// What is right of a file with errors comes with them.
func TestParseReturnsWhatIsRight(t *testing.T) {
	entries, err := deploy.ParsePorts("PORTS", "25:5025\n26\n27:5027 proces=imap\n25:5028\n1-65535:1-65535\n28:5028\n")
	if got, want := string(portsfile.Format(mappings(entries))), "25:5025\n28:5028\n"; got != want || err == nil {
		t.Errorf("%q, %v; want %q and an error", got, err, want)
	}
}
