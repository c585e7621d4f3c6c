package portsfile

import (
	"regexp"
	"strings"
)

// lookalikes are the forms that lines of other files have which somebody may call PORTS too. The first that fits counts. None of
// them fits a mapping with a slip in it, such as "25: 5025", "smtp:5025", "[::1]" or "process=imap" on a line of its own.
var lookalikes = []struct {
	what string
	form *regexp.Regexp
}{
	{"a URL", regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)},
	{"a line of a docker-compose file", regexp.MustCompile(`^-\s+["']?[0-9.:-]*\d:\d+(-\d+)?(/\w+)?["']?$`)},
	{"YAML", regexp.MustCompile(`^(---|["']?[A-Za-z_][\w. -]*["']?:(\s.*)?|-\s+[A-Za-z_][\w-]*:\s.*)$`)},
	{"a list of Markdown or YAML", regexp.MustCompile(`^[-*+]\s`)},
	{"Markdown", regexp.MustCompile("^(\\||```|\\*\\*|>\\s|=====*$)")},
	{"a host:port pair", regexp.MustCompile(`^(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}):\d+,?$`)},
	{"a variable of an .env file", regexp.MustCompile(`^(export\s+)?[A-Za-z_]\w*=`)},
	{"a section of an INI or TOML file", regexp.MustCompile(`^\[\[?[A-Za-z_][\w. -]*[g-zG-Z_][\w. -]*\]\]?$`)},
	{"JSON", regexp.MustCompile(`^(\{|\[$|\[\s*["{]|[}\]]+,?$|"[^"]*"\s*[:,]?)`)},
	{"a line of /etc/services", regexp.MustCompile(`^[A-Za-z][\w-]*\s+\d+/(tcp|udp)\b`)},
	{"XML or HTML", regexp.MustCompile(`^</?[?!A-Za-z]`)},
}

// lookalike says what a line that holds no mapping looks like, "" when nothing comes to mind.
func (p *parser[O]) lookalike(line string) string {
	line = strings.TrimSpace(line)
	if key, _, found := strings.Cut(line, "="); found {
		if _, own := find(p.options, key); own {
			return ""
		}
	}
	for _, l := range lookalikes {
		if l.form.MatchString(line) {
			return l.what
		}
	}
	return ""
}
