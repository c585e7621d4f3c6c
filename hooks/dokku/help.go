package dokku

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Command is one line of the help. Dokku makes columns of it at the comma between the two, so neither may have one.
type Command struct {
	// Usage is the command and its arguments: "expose:list [<app>]".
	Usage string
	// Text says in a few words what it does.
	Text string
}

// Help is what the plugin tells of its commands.
type Help struct {
	// Summary is the plugin in a few words, without a comma.
	Summary  string
	Commands []Command
}

// Page returns what `dokku expose:help` prints.
func (h Help) Page() string {
	width := 0
	for _, c := range h.Commands {
		width = max(width, len(c.Usage))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: dokku %s[:COMMAND]\n\n%s\n\nAdditional commands:\n", Plugin, h.Summary)
	for _, c := range h.sorted() {
		fmt.Fprintf(&b, "    %-*s  %s\n", width, c.Usage, c.Text)
	}
	return b.String()
}

// Lines returns the plugin's share of `dokku help`: one line, or with all one for each command.
func (h Help) Lines(all bool) string {
	if !all {
		return fmt.Sprintf("    %s, %s\n", Plugin, h.Summary)
	}
	var b strings.Builder
	for _, c := range h.sorted() {
		fmt.Fprintf(&b, "    %s, %s\n", c.Usage, c.Text)
	}
	return b.String()
}

func (h Help) sorted() []Command {
	return slices.SortedFunc(slices.Values(h.Commands), func(a, b Command) int { return strings.Compare(a.Usage, b.Usage) })
}

// HelpAll tells whether it is `dokku help --all` that runs this process. Dokku hands that on in no other way: its core
// plugins look at the command line of their parent as well.
func HelpAll() (bool, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", os.Getppid()))
	if err != nil {
		return false, fmt.Errorf("can't tell whether all of the help is asked for: %w", err)
	}
	return slices.ContainsFunc(bytes.Split(line, []byte{0}), func(arg []byte) bool { return string(arg) == "--all" }), nil
}
