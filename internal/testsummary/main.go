// Command testsummary reads `go test -json` and prints what `go test` itself prints: a line for each package, and what failing
// tests say. Below that it counts the tests that were skipped, by reason, which go test leaves out.
//
// It is a tool of the Makefile's and knows nothing of the program.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if err := summarize(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(1)
	}
}

// event is as `go doc test2json` tells.
type event struct {
	Action, Package, Test, Output string
}

// test is one test's place in the events; a package's own output has no Test.
type test struct{ pkg, name string }

func summarize(in io.Reader, out io.Writer) error {
	said := map[test][]string{}
	skipped := map[string]int{}

	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		t := test{e.Package, e.Test}
		switch {
		case e.Action == "build-output":
			fmt.Fprint(out, e.Output)
		case e.Action == "output":
			if !strings.HasPrefix(e.Output, "=== ") {
				said[t] = append(said[t], e.Output)
			}
		case e.Action == "fail":
			if e.Test == "" {
				printUnfinished(out, said, e.Package)
			}
			fmt.Fprint(out, strings.Join(said[t], ""))
			delete(said, t)
		case e.Action == "pass" || e.Action == "skip":
			if e.Test == "" {
				printVerdict(out, said[t])
			} else if e.Action == "skip" {
				skipped[reason(said[t])]++
			}
			delete(said, t)
		}
	}
	printSkipped(out, skipped)
	return lines.Err()
}

// printVerdict prints the one line that go test prints of a package that passes.
func printVerdict(out io.Writer, said []string) {
	for _, line := range said {
		if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "? ") {
			fmt.Fprint(out, line)
		}
	}
}

// printUnfinished prints what the tests said that a panic or the time limit cut off.
func printUnfinished(out io.Writer, said map[test][]string, pkg string) {
	for _, t := range slices.SortedFunc(maps.Keys(said), func(a, b test) int { return cmp.Compare(a.name, b.name) }) {
		if t.pkg == pkg && t.name != "" {
			fmt.Fprint(out, strings.Join(said[t], ""))
			delete(said, t)
		}
	}
}

// place is what go test puts before a message.
var place = regexp.MustCompile(`^\s+[^\s:]+\.go:\d+: `)

func reason(said []string) string {
	for _, line := range said {
		if at := place.FindString(line); at != "" {
			return strings.TrimSpace(line[len(at):])
		}
	}
	return "no reason given"
}

func printSkipped(out io.Writer, skipped map[string]int) {
	total := 0
	for _, n := range skipped {
		total += n
	}
	if total == 0 {
		return
	}
	fmt.Fprintf(out, "Skipped tests: %d\n", total)
	for _, why := range slices.Sorted(maps.Keys(skipped)) {
		fmt.Fprintf(out, "%5d  %s\n", skipped[why], why)
	}
}
