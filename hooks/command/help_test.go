package command

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Dokku's core makes columns of the lines of all plugins: four blanks, the command, one comma, and what it does.
func TestLinesOfDokkuHelp(t *testing.T) {
	form := regexp.MustCompile(`^    (expose\S*)[^,]*, [^ ,][^,]*[^ ,.]\n$`)
	for _, all := range []bool{false, true} {
		var commands []string
		for line := range strings.Lines(Help().Lines(all)) {
			m := form.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("the line %q has another form", line)
				continue
			}
			commands = append(commands, strings.TrimPrefix(m[1], "expose:"))
		}
		want := []string{"expose"}
		if all {
			want = slices.DeleteFunc(Names(), func(name string) bool { return name == byItself })
		}
		if slices.Sort(commands); !slices.Equal(commands, want) {
			t.Errorf("the commands are %v, want %v", commands, want)
		}
	}
}
